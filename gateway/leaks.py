"""The two addresses that finders of leaked keys call: GitHub's alerts, and TruffleHog's verifier.

Both are refused without work where nothing proves who calls (`aperture_site.leaks` refuses before a body is read); what
is proven is revoked before the answer. No line of the log and no answer quotes what was found.
"""

import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts.leaks import matches, revocation, signatures
from accounts.leaks.revocation import State
from accounts.leaks.signing_keys import Listing, NotFetched, SigningKeys, Unavailable
from accounts.models import Leak
from gateway import networks, outbound

logger = logging.getLogger(__name__)

GITHUB_PATH = "/leaks/github"
TRUFFLEHOG_PATH = "/leaks/trufflehog"
# How many bytes a body may have.
BYTES_MAX = {GITHUB_PATH: 5 * 1024 * 1024, TRUFFLEHOG_PATH: 64 * 1024}
FETCH_TIMEOUT_S = 5.0
LISTING_BYTES_MAX = 256 * 1024

UNSIGNED = "The alert is not signed by GitHub."
NO_BEARER = "The verifier's bearer token is missing or wrong."


def fetch_listing(etag: str) -> Listing:
    """Fetch GitHub's public keys; raise NotFetched."""
    headers = {"accept": "application/json", "user-agent": "aperture"} | ({"if-none-match": etag} if etag else {})
    policy = networks.operator_policy(settings.PRIVATE_UPSTREAMS)
    try:
        answer = async_to_sync(outbound.fetch)(
            "GET",
            settings.LEAK_KEYS_URL,
            policy=policy,
            headers=headers,
            timeout_s=FETCH_TIMEOUT_S,
            bytes_max=LISTING_BYTES_MAX,
        )
    except outbound.OutboundError as error:
        raise NotFetched(str(error)) from None
    if answer.status == 304 and etag:
        return Listing(None, etag)
    if answer.status != 200:
        raise NotFetched(f"the address of the keys answered {answer.status}")
    return Listing(answer.body, answer.headers.get("etag", ""))


signing_keys = SigningKeys(fetch_listing)


def say(status: int, sentence: str, **headers: str) -> HttpResponse:
    """Return an answer of one sentence."""
    return HttpResponse(f"{sentence}\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)


def guarded(path: str) -> Callable[[Callable[[HttpRequest, bytes], HttpResponse]], Callable[..., HttpResponse]]:
    """Give a view its body: the proof and the bound once more, for whoever serves Django in another way."""

    def wrap(view: Callable[[HttpRequest, bytes], HttpResponse]) -> Callable[..., HttpResponse]:
        def answer(request: HttpRequest) -> HttpResponse:
            refusal = unproven(request)
            if refusal is not None:
                return refusal
            body: bytes = request.read(BYTES_MAX[path] + 1)
            if len(body) > BYTES_MAX[path]:
                return say(413, f"The body is larger than {BYTES_MAX[path]} bytes.")
            try:
                return view(request, body)
            except matches.Unreadable as error:
                return say(400, str(error))
            except matches.TooMany as error:
                return say(413, str(error))

        return csrf_exempt(require_POST(answer))

    return wrap


def unproven(request: HttpRequest) -> HttpResponse | None:
    """Return the refusal of a request whose headers alone tell that it is to be refused, or None."""
    headers = {
        name.encode(): request.headers.get(name, "").encode("latin-1", "replace")
        for name in ("github-public-key-identifier", "github-public-key-signature", "authorization")
    }
    refusal = refusal_of(request.path, headers)
    return say(*refusal) if refusal else None


def refusal_of(path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
    """Return the status and sentence for a request whose headers prove nothing, or None; their names in lower case."""
    if path == GITHUB_PATH:
        identifier = headers.get(b"github-public-key-identifier", b"").decode("latin-1")
        signature = headers.get(b"github-public-key-signature", b"").decode("latin-1")
        return None if signatures.could_be_signed(identifier, signature) else (403, UNSIGNED)
    if not settings.LEAK_VERIFIER_TOKENS:
        return 503, "The verifier is off: set APERTURE_LEAK_VERIFIER_TOKEN."
    return None if knows_token(headers.get(b"authorization", b"")) else (401, NO_BEARER)


def knows_token(authorization: bytes) -> bool:
    """Tell, in the same time whatever is sent, whether this is `Bearer` and one of the operator's tokens."""
    scheme, _, sent = authorization.partition(b" ")
    known = [hmac.compare_digest(sent.strip(), token.encode()) for token in settings.LEAK_VERIFIER_TOKENS]
    return scheme.lower() == b"bearer" and any(known)


@guarded(GITHUB_PATH)
def github(request: HttpRequest, body: bytes) -> HttpResponse:
    """Revoke what GitHub found, and answer with a label for each text."""
    try:
        key = signing_keys.find(request.headers["github-public-key-identifier"])
    except Unavailable:
        return say(503, "GitHub's public keys cannot be fetched; send the alert again.", **{"Retry-After": "60"})
    if key is None or not signatures.holds(key, request.headers["github-public-key-signature"], body):
        return say(403, UNSIGNED)
    found, unreadable = matches.from_github(body)
    if unreadable:
        logger.warning("%d elements of an alert of GitHub's are no matches", unreadable)
    suspects = [(match, revocation.suspect(match.token, match.url, match.source or "unknown")) for match in found]
    ours = [suspect for _, suspect in suspects if suspect is not None]
    states = dict(zip(ours, revocation.report(ours, Leak.GITHUB, timezone.now()), strict=True))
    labels: dict[tuple[str, str], bool] = {}
    for match, suspect in suspects:
        issued = suspect is not None and states[suspect] is not State.UNKNOWN
        labels[hashlib.sha256(match.token.encode("utf-8", "surrogatepass")).hexdigest(), match.type] = issued
    feedback: list[dict[str, Any]] = [
        {"token_hash": digest, "token_type": kind, "label": "true_positive" if issued else "false_positive"}
        for (digest, kind), issued in labels.items()
    ]
    return HttpResponse(json.dumps(feedback), content_type="application/json")


@guarded(TRUFFLEHOG_PATH)
def trufflehog(request: HttpRequest, body: bytes) -> HttpResponse:  # noqa: ARG001
    """Answer 200 for a key that was live until now, 403 for one that was ours and is dead, 404 for anything else.

    401 is for a wrong bearer token alone: a scanner that takes it for `rotated` would drop what it has found.
    """
    found = [revocation.suspect(text, "", "trufflehog") for text in matches.from_trufflehog(body)]
    ours = list(dict.fromkeys(suspect for suspect in found if suspect is not None))
    states = revocation.report(ours, Leak.TRUFFLEHOG, timezone.now(), keep_unknown=False)
    if State.LIVE in states:
        return say(200, "The key was accepted; it is revoked now, and its owner is told.")
    if State.DEAD in states:
        return say(403, "The key was issued here and is not accepted.")
    return say(404, "This is no key of this installation.")


ROUTES: list[tuple[str, Callable[..., HttpResponse]]] = [
    (GITHUB_PATH.lstrip("/"), github),
    (TRUFFLEHOG_PATH.lstrip("/"), trufflehog),
]
