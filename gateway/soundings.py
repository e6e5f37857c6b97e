"""One look at an upstream: list its models, or send it one tiny request, and judge what comes back.

Through the guarded client alone: addresses are checked and pinned, redirects not followed, bodies and times bounded.
Every failure is a Sounding, none raises; its reason has neither the credential nor anything in the shape of a key.

A status is judged by what it says of the upstream, not of this request: 404 for a listing comes from a server that
works and lists nothing, 429 from one that works, 401 from one that refuses the credential.
"""

import re
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from catalog import credentials, health, vendors
from catalog.addresses import endpoint
from catalog.models import NAME_LENGTH_MAX, Credential, Provider
from gateway import connection, networks, outbound
from gateway.upstream import ANTHROPIC_VERSION
from gateway.wire.codec import Unreadable
from gateway.wire.registry import DIALECTS
from gateway.wire.usage import Tokens

LISTING_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 30.0
PAGE_MODELS = 1000
# How many requests one tiny request may take.
TINY_MAX = 2
ANTHROPIC, GEMINI = "anthropic_messages", "gemini_generate_content"
# A restricted key that may not list models can still be a good one.
NO_SCOPE = re.compile(rb"scope|insufficient permission|model\.read|models?\.list", re.I)
# Money is out, whatever the status says.
NO_MONEY = re.compile(rb"insufficient_quota|insufficient[ _](balance|credit|funds)|credit balance is too low", re.I)
REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN)
CALLERS_FAULT = (HTTPStatus.BAD_REQUEST, HTTPStatus.TOO_MANY_REQUESTS)
UNLISTED = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.GONE)


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach an upstream with one credential, for a listing and for a request; never log one."""

    upstream: connection.Upstream
    listing_headers: dict[str, str]
    check_path: str = ""


@dataclass(frozen=True, slots=True)
class Sounding:
    """What one look showed. `models` is None where nothing was listed, and `whole` if every page of it was read.

    `of_model` says that a failure is the asked model's own and not its upstream's.
    """

    outcome: str
    reason: str
    latency_ms: int = 0
    requests: int = 1
    models: tuple[str, ...] | None = None
    whole: bool = False
    of_model: bool = False
    tokens: Tokens | None = None


def way(provider: Provider, credential: Credential | None) -> Way:
    """Return the way to a provider with this credential, or with none; raise UnreadableSecret."""
    secret = credentials.open_credential(credential) if credential else ""
    vendor = vendors.vendor_of(provider.slug, provider.base_url)
    flags = tuple(provider.flags)
    shown = credentials.authorization(provider.authorization, secret) if secret else {}
    listed = shown
    headers = dict(provider.add_headers)
    version = {"anthropic-version": ANTHROPIC_VERSION} if ANTHROPIC in flags else {}
    if secret and vendor and ANTHROPIC in flags and ANTHROPIC in vendor.native_authorizations:
        listed = credentials.authorization(vendor.native_authorizations[ANTHROPIC], secret)
    return Way(
        connection.Upstream(base_url=provider.base_url, flags=flags, headers=headers | version | shown, secret=secret),
        headers | version | listed,
        vendor.check_path if vendor and vendors.BY_HOST.get(urlsplit(provider.base_url).hostname or "") else "",
    )


async def listing(there: Way, *, policy: networks.Policy, pages: int = 1) -> Sounding:
    """List an upstream's models, at most so many PAGES of them."""
    started = time.monotonic()
    path = "/v1beta/models" if there.upstream.flags[:1] == (GEMINI,) else "/v1/models"
    query = first_page(there.upstream.flags, there.upstream.base_url)
    found: list[str] = []
    for page in range(1, pages + 1):
        sounding, document = await _list(there, path, query, policy)
        sounding = replace(sounding, latency_ms=_since(started), requests=page)
        if document is None:
            return sounding
        try:
            found += filter(_is_usable, connection.names_in(document))
        except ValueError:
            reason = f"GET {path} answered 200 without a list of models."
            return replace(sounding, outcome=health.FAILED, reason=reason)
        following = next_page(document)
        if not following:
            return replace(sounding, models=tuple(found), whole=True)
        query = query | following
    return replace(sounding, models=tuple(found))


async def _list(there: Way, path: str, query: dict[str, str], policy: networks.Policy) -> tuple[Sounding, Any]:
    """Ask for one page; return what it showed, and the parsed page if there is one."""
    url = endpoint(there.upstream.base_url, path) + (f"?{urlencode(query)}" if query else "")
    try:
        answer = await outbound.fetch(
            "GET", url, policy=policy, headers=there.listing_headers, timeout_s=LISTING_TIMEOUT_S
        )
    except outbound.BadAnswer as error:
        # It answers, and at length.
        return Sounding(health.OK, _told(error, there)), None
    except outbound.OutboundError as error:
        return Sounding(health.FAILED, _told(error, there)), None
    said = connection.scrubbed(connection.refusal("GET", path, answer), there.upstream.secret)
    if answer.status in UNLISTED or (answer.status == HTTPStatus.FORBIDDEN and NO_SCOPE.search(answer.body)):
        return Sounding(health.OK, f"It answers, and lists no models ({answer.status})."), None
    if answer.status != HTTPStatus.OK:
        return Sounding(_judged(answer), said), None
    try:
        return Sounding(health.OK, "It lists its models."), answer.json()
    except ValueError:
        return Sounding(health.FAILED, said), None


def first_page(flags: tuple[str, ...], base_url: str) -> dict[str, str]:
    """Return what asks a vendor that pages its listing for as much as it gives at once.

    https://docs.anthropic.com/en/api/models-list, https://ai.google.dev/api/models#method:-models.list
    """
    vendor = vendors.BY_HOST.get(urlsplit(base_url).hostname or "")
    if vendor and vendor.slug == "anthropic":
        return {"limit": str(PAGE_MODELS)}
    return {"pageSize": str(PAGE_MODELS)} if flags[:1] == (GEMINI,) else {}


def next_page(document: Any) -> dict[str, str]:
    """Return what asks for the page after this one; empty where it is the last."""
    if not isinstance(document, dict):
        return {}
    if document.get("has_more") and document.get("last_id"):
        return {"after_id": str(document["last_id"])}
    return {"pageToken": str(document["nextPageToken"])} if document.get("nextPageToken") else {}


async def reading(there: Way, *, policy: networks.Policy) -> Sounding:
    """Read the cheap page by which a vendor's key is checked where its listing is large or open to everybody."""
    started = time.monotonic()
    url = endpoint(there.upstream.base_url, there.check_path)
    try:
        answer = await outbound.fetch(
            "GET", url, policy=policy, headers=there.listing_headers, timeout_s=LISTING_TIMEOUT_S
        )
    except outbound.OutboundError as error:
        return Sounding(health.FAILED, _told(error, there), _since(started))
    if answer.status == HTTPStatus.OK:
        return Sounding(health.OK, "It knows the credential.", _since(started))
    said = connection.scrubbed(connection.refusal("GET", there.check_path, answer), there.upstream.secret)
    return Sounding(_judged(answer), said, _since(started))


async def tiny(there: Way, model: str, *, is_embedding: bool, policy: networks.Policy) -> Sounding:
    """Send one tiny request to a model."""
    upstream = replace(there.upstream, is_embedding=is_embedding)
    request = connection.tiny_request(upstream, model)
    if request is None:
        return Sounding(health.ALIVE, f"None of its dialects ({', '.join(upstream.flags)}) has a tiny request.", 0, 0)
    url, body = request
    path, requests, started = urlsplit(url).path, 1, time.monotonic()
    headers = upstream.headers
    try:
        answer = await outbound.fetch(
            "POST", url, policy=policy, headers=headers, body=body, timeout_s=REQUEST_TIMEOUT_S
        )
        if answer.status == HTTPStatus.BAD_REQUEST and b"max_completion_tokens" in answer.body and "max_tokens" in body:
            # OpenAI's reasoning models know the bound by this name only.
            body["max_completion_tokens"] = body.pop("max_tokens")
            requests, started = 2, time.monotonic()
            answer = await outbound.fetch(
                "POST", url, policy=policy, headers=headers, body=body, timeout_s=REQUEST_TIMEOUT_S
            )
    except outbound.OutboundError as error:
        return Sounding(health.FAILED, _told(error, there), _since(started), requests)
    latency_ms = _since(started)
    said = connection.scrubbed(f"{model}: {connection.refusal('POST', path, answer)}", upstream.secret)
    if answer.status != HTTPStatus.OK:
        outcome = _judged(answer)
        if answer.status == HTTPStatus.FORBIDDEN and b"model" in answer.body:
            outcome = health.FAILED
        of_model = (
            outcome == health.FAILED and HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
        )
        return Sounding(outcome, said, latency_ms, requests, of_model=of_model)
    tokens, problem = _used(upstream, answer.body)
    if problem:
        return Sounding(health.FAILED, said, latency_ms, requests, tokens=tokens)
    return Sounding(health.OK, f"{model} answered.", latency_ms, requests, tokens=tokens)


def _used(upstream: connection.Upstream, body: bytes) -> tuple[Tokens | None, bool]:
    """Return what an answer says that it used, and whether it is an error or no answer at all."""
    flag = next((flag for flag in connection.REQUESTS if flag in upstream.flags), "openai_chat")
    try:
        answer = DIALECTS["openai_chat" if upstream.is_embedding else flag].read_answer(body)
    except Unreadable:
        return None, True
    return answer.usage, answer.is_error


def _judged(answer: outbound.Answer) -> str:
    """Return what an answer that is no success says of its upstream and credential."""
    if answer.status in REFUSALS or (answer.status in CALLERS_FAULT and NO_MONEY.search(answer.body)):
        return health.REFUSED
    return health.ALIVE if answer.status == HTTPStatus.TOO_MANY_REQUESTS else health.FAILED


def _told(error: outbound.OutboundError, there: Way) -> str:
    """Return what an error says; of a broken answer it may quote a piece, and that may repeat the request."""
    return connection.scrubbed(str(error), there.upstream.secret)


def _is_usable(name: str) -> bool:
    """Tell whether an id of a listing can be one of a target's."""
    return 0 < len(name) <= NAME_LENGTH_MAX and name.isprintable()


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
