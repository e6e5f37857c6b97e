"""How many tokens a request's input is: the vendor's own count where it offers one in the caller's dialect, else an
estimate from bytes (`gateway.estimate` tells its error), marked as one in `x-aperture-estimate`.

Counting costs nothing, so nothing is held; it goes the way of a request up to there.
"""

import time
from collections.abc import Callable

import msgspec
from django.conf import settings

from gateway import admission, calls, estimate, limiting, pipeline, rejection, upstream
from gateway.answers import JSON
from gateway.calls import Route
from gateway.errors import Fault
from gateway.exchange import Exchange
from gateway.pipeline import Named
from gateway.routes import plan
from gateway.runtime import Runtime
from gateway.snapshot import Target
from gateway.wire.codec import Dialect, Rendered
from gateway.wire.fields import InvalidRequest, texts

ESTIMATED = (b"x-aperture-estimate", b"true")
ANSWER_BYTES_MAX = 64 * 1024
# Where a vendor counts, in place of where it answers.
COUNTING = {"/v1/messages": "/v1/messages/count_tokens"}
VERB, COUNTING_VERB = ":generateContent", ":countTokens"
# What a vendor answers that speaks the dialect and does not count.
NO_SUCH_ENDPOINT = (404, 405, 501)


async def count(
    runtime: Runtime, exchange: Exchange, route: Route, named: Named, shape: Callable[[int], dict[str, int]]
) -> None:
    """Answer with the number of input tokens; raise Fault."""
    try:
        await pipeline.admit(runtime, exchange)
        pipeline.permit(exchange, route)
        body = await pipeline.receive(exchange)
        try:
            asked = route.front.read(body, named.model, named.stream)
            pipeline.keep_apart(exchange, asked, body)
        except InvalidRequest as error:
            raise Fault(error.code, str(error), param=error.param) from None
        planned = plan(exchange.snapshot, exchange.access, asked.model)
        target = planned.targets[0]
        dialect = calls.spoken(route, target)
        # It counts as a request that used nothing.
        quoted = admission.quote(asked, planned.model, (target,), exchange.caller, body, answers=False)
        await limiting.reserve(runtime, exchange, planned.model.public_id, quoted)
        counted = None
        if dialect.name == route.front.name:
            counted = await ask(runtime, exchange, target, dialect, dialect.passed(asked, target.upstream_id, None))
        tokens = estimate.input_tokens(body, texts(asked.fields))
        answer, headers = counted or (msgspec.json.encode(shape(tokens)), [ESTIMATED])
        exchange.used_tokens = 0
    finally:
        pipeline.leave(exchange)
    headers = [*headers, JSON, (b"content-length", b"%d" % len(answer))]
    exchange.answered = True
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": answer})


async def ask(
    runtime: Runtime, exchange: Exchange, target: Target, dialect: Dialect, rendered: Rendered
) -> tuple[bytes, list[tuple[bytes, bytes]]] | None:
    """Return the vendor's own answer and what is said of where it comes from; None where it does not count.

    Raise Fault.
    """
    path = COUNTING.get(rendered.path) or rendered.path.replace(VERB, COUNTING_VERB)
    headers = upstream.request_headers(target, dialect.name, exchange.headers, exchange.access.headers)
    slug = target.provider.slug
    try:
        with exchange.deadline.within(target.timeout_s or settings.FIRST_BYTE_TIMEOUT_S):
            response = await runtime.upstream.post(target, msgspec.structs.replace(rendered, path=path), headers)
            try:
                data = await upstream.read(response, ANSWER_BYTES_MAX)
            finally:
                response.close()
    except TimeoutError:
        raise Fault("upstream_timeout", f"{slug} did not count in time; try again.") from None
    except upstream.Broken as error:
        raise upstream.unreachable(target, error) from None
    except upstream.Unreadable as error:
        raise rejection.of_rubbish(target, response.status, b"", str(error)) from None
    if response.status in NO_SUCH_ENDPOINT:
        return None
    if response.status != 200:
        retry_after = response.headers.get("Retry-After")
        raise rejection.of_status(target, response.status, data, dialect.parse_error, retry_after, time.time())
    return data, [(b"x-aperture-upstream", slug.encode("latin-1"))]
