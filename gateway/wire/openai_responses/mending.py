"""A stream on its way through whose upstream leaves out what OpenAI's own readers need (llama.cpp). Pure.

Added where they are missing, and nothing else: `sequence_number`, `output_index` (by the item's id), `content_index`
and `summary_index` (the first), the logprobs of a text, and in response objects `output` (at the end the items that
were done), `model` and `created_at`. An event that lacks none of them passes byte for byte.
"""

from typing import Any

import msgspec

from gateway.wire import sse
from gateway.wire.codec import Reply
from gateway.wire.fields import Asked, Fields, decode_fields, encode
from gateway.wire.openai_responses.decoder import BEGINNINGS, ENDINGS
from gateway.wire.openai_responses.items import text_of
from gateway.wire.openai_responses.relay import StreamRelay

ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})
# Kinds of events about one part, by how they begin, and the fields that say which.
PARTS = {
    "response.content_part.": ("output_index", "content_index"),
    "response.output_text.": ("output_index", "content_index"),
    "response.refusal.": ("output_index", "content_index"),
    "response.reasoning_text.": ("output_index", "content_index"),
    "response.reasoning_summary_": ("output_index", "summary_index"),
    "response.function_call_arguments.": ("output_index",),
    "response.custom_tool_call_input.": ("output_index",),
}
TEXT = ("response.output_text.delta", "response.output_text.done")


def mended(asked: Asked, reply: Reply) -> "MendingRelay":
    """Return the relay of one stream that is mended."""
    return MendingRelay(reply, wants_cost=asked.wants_cost)


class MendingRelay(StreamRelay):
    """One stream."""

    def __init__(self, reply: Reply, *, wants_cost: bool = False) -> None:
        super().__init__(reply.model, wants_cost=wants_cost)
        self.created = reply.created
        self.sequence = 0
        # Where each item stands, by its id.
        self.indexes: dict[str, int] = {}
        self.last = 0
        self.output: dict[int, msgspec.Raw] = {}

    def feed(self, block: bytes) -> bytes:
        """Return what the caller gets for a block of whole events."""
        return super().feed(b"".join(map(self._mended, sse.split(block))))

    def _mended(self, event: bytes) -> bytes:
        try:
            told = decode_fields(sse.data_of(event))
        except (ValueError, RecursionError):
            return event
        kind = _value(told.get("type"))
        if type(kind) is not str or not kind:
            return event
        missing = self._missing(kind, told)
        if "sequence_number" not in told:
            missing["sequence_number"] = self.sequence
        else:
            given = _value(told["sequence_number"])
            self.sequence = max(self.sequence, given) if type(given) is int else self.sequence
        self.sequence += 1
        if not missing:
            return event
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(told | missing))

    def _missing(self, kind: str, told: Fields) -> dict[str, Any]:
        if kind in ITEMS:
            is_done = kind == "response.output_item.done"
            index = self._item(told, is_done=is_done)
            if is_done:
                self.output[index] = told.get("item", msgspec.Raw(b"null"))
            return {} if "output_index" in told else {"output_index": index}
        if kind in BEGINNINGS or kind in ENDINGS:
            return self._response(told, ends=kind in ENDINGS)
        missing: dict[str, Any] = {}
        for beginning, names in PARTS.items():
            if kind.startswith(beginning):
                missing = {name: 0 for name in names if name not in told}
        if "output_index" in missing:
            missing["output_index"] = self.indexes.get(text_of(_value(told.get("item_id"))), self.last)
        if kind in TEXT and "logprobs" not in told:
            missing["logprobs"] = []
        return missing

    def _item(self, told: Fields, *, is_done: bool) -> int:
        """Return where an event's item stands."""
        try:
            item = decode_fields(told.get("item", b"{}"))
        except (ValueError, RecursionError):
            item = {}
        id = text_of(_value(item.get("id"))) or text_of(_value(item.get("call_id")))
        given = _value(told.get("output_index"))
        if type(given) is int:
            index = given
        elif id in self.indexes:
            index = self.indexes[id]
        else:
            # What has no id is done where it was added.
            index = self.last if is_done and not id and self.indexes else len(self.indexes)
        self.indexes[id or f"#{index}"] = self.last = index
        return index

    def _response(self, told: Fields, *, ends: bool) -> dict[str, Any]:
        try:
            response = decode_fields(told.get("response", b""))
        except (ValueError, RecursionError):
            return {}
        done = [self.output[index] for index in sorted(self.output)] if ends else []
        whole = {"output": done, "model": msgspec.Raw(self.asked), "created_at": self.created}
        missing = {name: value for name, value in whole.items() if name not in response}
        return {"response": response | missing} if missing else {}


def _value(raw: bytes | None) -> Any:
    """Return a short JSON value, None for what is none."""
    try:
        return msgspec.json.decode(raw) if raw else None
    except (ValueError, RecursionError):
        return None
