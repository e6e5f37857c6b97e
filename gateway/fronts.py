"""The routes that call a model, by what their callers speak.

A route is a line here and one in `gateway.asgi.ROUTES`; what it means is its dialect's (`gateway.wire`).
"""

from urllib.parse import parse_qs

from gateway import counting, embeddings, mixed, pipeline
from gateway.calls import Route
from gateway.errors import Fault
from gateway.exchange import Exchange
from gateway.pipeline import Named
from gateway.runtime import Runtime
from gateway.wire import openai_completions
from gateway.wire.registry import DIALECTS

CHAT = Route("openai_chat", DIALECTS["openai_chat"], mixed=mixed.FRONT)
RESPONSES = Route("openai_responses", DIALECTS["openai_responses"])
COMPLETIONS = Route("openai_completions", openai_completions.FRONT)
MESSAGES = Route("anthropic_messages", DIALECTS["anthropic_messages"])
GEMINI = Route("gemini_generate_content", DIALECTS["gemini_generate_content"])


async def chat(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """POST /chat/completions."""
    await pipeline.run(runtime, exchange, CHAT)


async def completions(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """POST /completions."""
    await pipeline.run(runtime, exchange, COMPLETIONS)


async def vectors(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """POST /embeddings."""
    await pipeline.run(runtime, exchange, embeddings.OPENAI_ROUTE, Named(stream=False))


async def messages(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """POST /messages."""
    await pipeline.run(runtime, exchange, MESSAGES)


async def count_messages(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """POST /messages/count_tokens (https://docs.anthropic.com/en/api/messages-count-tokens)."""
    await counting.count(runtime, exchange, MESSAGES, Named(stream=False), lambda tokens: {"input_tokens": tokens})


async def gemini(runtime: Runtime, exchange: Exchange, rest: str) -> None:
    """POST /models/{model}:{verb}, with Google's verbs."""
    model, _, verb = rest.rpartition(":")
    query = parse_qs(exchange.scope.get("query_string", b"").decode("latin-1"))
    if verb == "generateContent":
        await pipeline.run(runtime, exchange, GEMINI, Named(model, stream=False))
    elif verb == "streamGenerateContent":
        await pipeline.run(runtime, exchange, GEMINI, Named(model, stream=True, array=query.get("alt") != ["sse"]))
    elif verb == "countTokens":
        named = Named(model, stream=False)
        await counting.count(runtime, exchange, GEMINI, named, lambda tokens: {"totalTokens": tokens})
    elif verb in embeddings.GEMINI_ROUTES:
        await pipeline.run(runtime, exchange, embeddings.GEMINI_ROUTES[verb], Named(model, stream=False))
    else:
        raise Fault("not_found", f"There is no {verb[:64]!r} of a model; there are {', '.join(VERBS)}.")


VERBS = ("generateContent", "streamGenerateContent", "countTokens", *embeddings.GEMINI_ROUTES)
