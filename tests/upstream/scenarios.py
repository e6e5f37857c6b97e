"""The table of scenarios: the model's name in the request → what the upstream does."""

from functools import partial

from tests.upstream import bills, faults, streams, vendors
from tests.upstream.connection import Exchange, Wire
from tests.upstream.faults import Scenario

STATUSES = (400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 418, 422, 429, 500, 502, 503, 504, 529)
NOT_A_NUMBER = float("nan")

SCENARIOS: dict[str, Scenario] = {
    "ok": faults.ok,
    "bill": bills.bill,
    "bill:free": bills.bill,
    "repeats": faults.repeats,
    "tool-call": faults.tool_call,
    "silent": faults.silent,
    "silent-after-head": faults.silent_after_head,
    "reset-before-head": faults.reset_before_head,
    "reset-after-head": faults.reset_after_head,
    "empty-reply": faults.empty_reply,
    "stale": faults.stale,
    "garbage-status": faults.garbage_status,
    "half-head": faults.half_head,
    "huge-head": faults.huge_head,
    **{f"status-{code}-{kind}": partial(faults.status, code, kind)
       for code in STATUSES for kind in ("json", "html", "empty")},
    "status-500-huge": partial(faults.status, 500, "huge"),
    "status-400-huge": partial(faults.status, 400, "huge"),
    "status-200-huge": partial(faults.status, 200, "huge"),
    "retry-after-5": partial(faults.retry_after, "5"),
    "retry-after-date": partial(faults.retry_after, "date"),
    "retry-after-absurd": partial(faults.retry_after, "1000000000"),
    "retry-after-negative": partial(faults.retry_after, "-5"),
    "retry-after-garbage": partial(faults.retry_after, "soon"),
    "redirect-302": partial(faults.redirect, 302),
    "redirect-307": partial(faults.redirect, 307),
    "switching-101": faults.switching,
    "continue-100": faults.continue_100,
    "early-hints-103": faults.early_hints_103,
    "vendor-headers": faults.vendor_headers,
    "chunk-extensions": faults.chunk_extensions,
    "trailers": faults.trailers,
    "http10-close": faults.http10_close,
    "bad-chunk": faults.bad_chunk,
    "short-body": faults.short_body,
    "slow-body": faults.slow_body,
    "patient-body": faults.patient_body,
    "slow-first-byte-0.3": partial(faults.slow_first_byte, 0.3),
    "slow-first-byte-2": partial(faults.slow_first_byte, 2.0),
    "html-200": partial(faults.body, b"<html>hello</html>", "text/html"),
    "empty-200": partial(faults.body, b"", "application/json"),
    "list-200": partial(faults.body, b"[1,2,3]", "application/json"),
    "null-200": partial(faults.body, b"null", "application/json"),
    "latin1-200": partial(faults.body, b'{"model":"\xe9\xff"}', "application/json"),
    "error-in-200": faults.error_in_200,
    "truncated-json": faults.truncated_json,
    "json-for-stream": faults.json_for_stream,
    "stream-for-json": faults.stream_for_json,
    "wrong-type": faults.wrong_type,
    "gzip": partial(faults.coded, "honest"),
    "gzip-lying": partial(faults.coded, "lying"),
    "gzip-cut": partial(faults.coded, "cut"),
    "gzip-bomb": partial(faults.coded, "bomb"),
    "coding-unknown": partial(faults.coded, "unknown"),
    "usage-null": partial(faults.usage, None),
    "usage-negative": partial(faults.usage, {"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12}),
    "usage-string": partial(faults.usage, {"prompt_tokens": "11", "completion_tokens": "many", "total_tokens": "x"}),
    "usage-nan": partial(faults.usage, {"prompt_tokens": NOT_A_NUMBER, "completion_tokens": 7, "total_tokens": 18}),
    "usage-absurd": partial(faults.usage, {"prompt_tokens": 10**12, "completion_tokens": 10**30, "total_tokens": 3}),
    "usage-list": partial(faults.usage, [1, 2, 3]),
    "usage-sum": partial(faults.usage, {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 9999}),
    "cut-1": partial(streams.cut, 1),
    "cut-2": partial(streams.cut, 2),
    "cut-3": partial(streams.cut, 3),
    "cut-7": partial(streams.cut, 7),
    "cut-line-end": streams.cut_line_end,
    "bare-cr": streams.bare_cr,
    "crlf": streams.crlf,
    "no-space": streams.no_space,
    "many-lines": streams.many_lines,
    "byte-order-mark": streams.byte_order_mark,
    "one-write": streams.one_write,
    "separators": partial(streams.text, streams.SEPARATORS),
    "injection": partial(streams.text, streams.INJECTION),
    "nul": partial(streams.text, "a\x00b"),
    "model-in-text": streams.model_in_text,
    "model-varies": streams.model_varies,
    "other-fields": streams.other_fields,
    "reasoning": streams.reasoning,
    "huge-event": streams.huge_event,
    "endless-event": streams.endless_event,
    "tiny-events": streams.tiny_events,
    "flood": streams.flood,
    "drip-0.1": partial(streams.drip, 0.1),
    "drip-0.7": partial(streams.drip, 0.7),
    "endless": streams.endless,
    "stall-mid-stream": streams.stall,
    "comments-only": streams.comments_only,
    "comments-later": streams.comments_later,
    "reset-mid-1": partial(streams.reset_mid, 1),
    "reset-mid-3": partial(streams.reset_mid, 3),
    "cut-json": streams.cut_json,
    "cut-well": streams.cut_well,
    "error-first-event": streams.error_first,
    "error-mid-stream": streams.error_mid,
    "rubbish-mid-stream": streams.rubbish_mid,
    "done-missing": streams.done_missing,
    "done-double": streams.done_double,
    "data-after-done": streams.data_after_done,
    "open-after-done": streams.open_after_done,
    "reset-after-done": streams.reset_after_done,
    "usage-twice": streams.usage_twice,
    "usage-with-choices": streams.usage_with_choices,
    "usage-each": streams.usage_each,
    "usage-missing": streams.usage_missing,
}  # fmt: skip


async def models(exchange: Exchange, wire: Wire) -> None:
    """The list of models: every scenario."""
    listed = ",".join(f'{{"id":"{name}","object":"model","created":1,"owned_by":"scripted"}}' for name in SCENARIOS)
    await wire.whole(200, b'{"object":"list","data":[%b]}' % listed.encode())


def route(exchange: Exchange) -> Scenario | None:
    """Return the scenario of a request that names no model, or that is told in another vendor's words."""
    if exchange.method == "GET" and exchange.path.endswith("/models"):
        return models
    return vendors.route(exchange)
