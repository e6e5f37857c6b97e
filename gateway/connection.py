"""Test the way to a provider: list its models, send it one tiny request, and say what happened in one line.

Nothing that comes back holds the credential: every text goes through `scrub` before it leaves this module.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from asgiref.sync import async_to_sync
from django.conf import settings

from catalog import credentials
from catalog.addresses import endpoint
from catalog.models import Model, Provider, Target
from gateway import networks, outbound
from gateway.scrub import scrub

TIMEOUT_S = 30.0
ERROR_LENGTH_MAX = 400
PROMPT = "Reply with OK."
TOKENS_MAX = 16


def _chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": TOKENS_MAX}


def _responses(model: str) -> dict[str, Any]:
    return {"model": model, "input": PROMPT, "max_output_tokens": TOKENS_MAX}


def _gemini(_model: str) -> dict[str, Any]:
    turn = {"role": "user", "parts": [{"text": PROMPT}]}
    return {"contents": [turn], "generationConfig": {"maxOutputTokens": TOKENS_MAX}}


# Flag → path under the base URL and body of the tiny request, in the order of preference.
REQUESTS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "openai_chat": ("/v1/chat/completions", _chat),
    "anthropic_messages": ("/v1/messages", _chat),
    "openai_responses": ("/v1/responses", _responses),
    "gemini_generate_content": ("/v1beta/models/{model}:generateContent", _gemini),
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """What a test needs to know of a provider; no database row."""

    base_url: str
    flags: tuple[str, ...]
    headers: dict[str, str]
    secret: str = ""
    model: str = ""
    is_embedding: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a test, in one line for people; the latency that it tells is the tiny request's, whole."""

    ok: bool
    message: str


def test(provider: Provider) -> Result:
    """Test a provider with its first credential and its first target, else the first model that it lists."""
    try:
        upstream = describe(provider)
    except credentials.UnreadableSecret as error:
        return Result(ok=False, message=f"The credential does not open: {error} Enter it again.")
    policy = networks.operator_policy(settings.PRIVATE_UPSTREAMS)
    return async_to_sync(probe)(upstream, policy=policy)


def describe(provider: Provider) -> Upstream:
    """Return what a test needs of this provider; raise UnreadableSecret."""
    credential = provider.credentials.filter(enabled=True).select_related("provider").order_by("name").first()
    secret = credentials.open_credential(credential) if credential and provider.auth_mode != Provider.NONE else ""
    targets = Target.objects.filter(provider=provider, enabled=True, model__enabled=True).select_related("model")
    shown = credentials.authorization(provider.authorization, secret) if secret else {}
    target = targets.filter(model__kind=Model.CHAT).order_by("pk").first() or targets.order_by("pk").first()
    return Upstream(
        base_url=provider.base_url,
        flags=tuple(provider.flags),
        headers={**provider.add_headers, **shown},
        secret=secret,
        model=target.upstream_id if target else "",
        is_embedding=bool(target and target.model.kind == Model.EMBEDDING),
    )


async def probe(upstream: Upstream, *, policy: networks.Policy, timeout_s: float = TIMEOUT_S) -> Result:
    """List the upstream's models and send one tiny request; every failure is a Result, none raises."""
    headers = dict(upstream.headers)
    if "anthropic_messages" in upstream.flags:
        headers["anthropic-version"] = "2023-06-01"
    listed, listing_error = await _list_models(upstream, headers, policy, timeout_s)
    model = upstream.model or (listed[0] if listed else "")
    count = len(listed) if listing_error == "" else None
    if not model:
        reason = listing_error or "The upstream lists no model, and this provider has no target."
        return Result(ok=False, message=scrubbed(reason, upstream.secret))
    request = tiny_request(upstream, model)
    if request is None:
        note = f"None of its dialects ({', '.join(upstream.flags)}) has a test request; {count or 0} models are listed."
        message = scrubbed(listing_error or note, upstream.secret)
        return Result(ok=listing_error == "", message=message)
    started = time.monotonic()
    error = await _send(*request, headers, policy, timeout_s)
    latency_ms = round((time.monotonic() - started) * 1000)
    if error:
        message = f"{model}: {error}"
    else:
        models = f"{count} models listed" if count is not None else f"no list of models ({listing_error})"
        message = f"{model} answered in {latency_ms} ms; {models}."
    return Result(ok=not error, message=scrubbed(message, upstream.secret))


def tiny_request(upstream: Upstream, model: str) -> tuple[str, dict[str, Any]] | None:
    """Return URL and body of the tiny request to a model in the first of the upstream's dialects that has one."""
    if upstream.is_embedding:
        return endpoint(upstream.base_url, "/v1/embeddings"), {"model": model, "input": PROMPT}
    for flag, (path, body) in REQUESTS.items():
        if flag in upstream.flags:
            return endpoint(upstream.base_url, path.replace("{model}", quote(model, safe="/"))), body(model)
    return None


async def _list_models(
    upstream: Upstream, headers: dict[str, str], policy: networks.Policy, timeout_s: float
) -> tuple[list[str], str]:
    path = "/v1beta/models" if "gemini_generate_content" in upstream.flags[:1] else "/v1/models"
    try:
        answer = await outbound.fetch(
            "GET", endpoint(upstream.base_url, path), policy=policy, headers=headers, timeout_s=timeout_s
        )
    except outbound.OutboundError as error:
        return [], str(error)
    if answer.status != 200:
        return [], refusal("GET", path, answer)
    try:
        names = names_in(answer.json())
    except ValueError:
        return [], f"GET {path} answered 200 without a list of models: {excerpt(answer)}"
    return names, ""


def names_in(document: Any) -> list[str]:
    """Return the ids that a listing holds, in the shape of any dialect; raise ValueError where it is no listing."""
    try:
        entries = document if isinstance(document, list) else document.get("data", document.get("models", []))
        return [str(entry.get("id") or entry["name"]).removeprefix("models/") for entry in entries]
    except (AttributeError, KeyError, TypeError):
        raise ValueError("no list of models") from None


async def _send(
    url: str, body: dict[str, Any], headers: dict[str, str], policy: networks.Policy, timeout_s: float
) -> str:
    path = urlsplit(url).path
    try:
        answer = await outbound.fetch("POST", url, policy=policy, headers=headers, body=body, timeout_s=timeout_s)
        if answer.status == 400 and b"max_completion_tokens" in answer.body and "max_tokens" in body:
            # OpenAI's reasoning models know the bound by this name only.
            body = {**body, "max_completion_tokens": body["max_tokens"]}
            del body["max_tokens"]
            answer = await outbound.fetch("POST", url, policy=policy, headers=headers, body=body, timeout_s=timeout_s)
    except outbound.OutboundError as error:
        return str(error)
    if answer.status != 200:
        return refusal("POST", path, answer)
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("error"):
        return f"POST {path} answered 200 without a result: {excerpt(answer)}"
    return ""


def refusal(method: str, path: str, answer: outbound.Answer) -> str:
    """Return what an answer that is no success says, unscrubbed."""
    location = f" (a redirect to {answer.headers['location']}, not followed)" if "location" in answer.headers else ""
    return f"{method} {path} answered {answer.status}{location}: {excerpt(answer)}"


def excerpt(answer: outbound.Answer) -> str:
    """Return the beginning of an answer's body, or the message of the error in it."""
    text = answer.body[: ERROR_LENGTH_MAX * 8].decode("utf-8", "replace")
    try:
        document = answer.json()
        error = document.get("error", document) if isinstance(document, dict) else document
        text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except ValueError:
        pass
    return " ".join(text.split()) or "(empty body)"


def scrubbed(text: str, secret: str) -> str:
    """Return a text for people, short and without the secret."""
    # What no database and no page takes: a NUL, halves of characters.
    text = scrub(text, [secret]).encode("utf-8", "replace").decode().replace("\0", "")
    return text if len(text) <= ERROR_LENGTH_MAX else text[:ERROR_LENGTH_MAX] + "…"
