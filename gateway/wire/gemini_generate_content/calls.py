"""Calls of functions: their arguments as objects, and their ids, which Gemini may leave out. Pure.

Gemini's `functionCall.id` came late and clients drop it: Python's own SDK answers a call by its name alone. A call
without an id gets one by its place in the conversation, an answer without one belongs to the first unanswered call of
its name. Ids that were made here are not sent to Gemini, which can do without.
"""

from collections import OrderedDict, deque

import msgspec

from gateway.wire.canonical import Json, ToolCall, as_arguments
from gateway.wire.fields import decode_fields

MADE = "gemini_call_"


class Calls:
    """The calls of a conversation that wait for their answers, as it is read."""

    def __init__(self) -> None:
        self.made_count = 0
        # Name by id, and ids by name; an id that is no longer among the former was answered.
        self.waiting: OrderedDict[str, str] = OrderedDict()
        self.by_name: dict[str, deque[str]] = {}

    def called(self, id: str, name: str) -> str:
        """Return the id of a call."""
        id = id or self._made()
        self.waiting[id] = name
        self.by_name.setdefault(name, deque()).append(id)
        return id

    def answered(self, id: str, name: str) -> str:
        """Return the id of the call that an answer belongs to."""
        if id:
            self.waiting.pop(id, None)
            return id
        named = self.by_name.get(name, deque())
        while named:
            found = named.popleft()
            if self.waiting.pop(found, None) is not None:
                return found
        if self.waiting:
            return self.waiting.popitem(last=False)[0]
        return self._made()

    def _made(self) -> str:
        self.made_count += 1
        return f"{MADE}{self.made_count}"


def is_made(id: str) -> bool:
    """Tell whether an id was made here."""
    return id.startswith(MADE)


def args_of(call: ToolCall) -> Json | msgspec.Raw:
    """Return a call's arguments as the object that `args` is; what is none stands in one, as it was written."""
    text = as_arguments(call.arguments) if call.custom else call.arguments
    if not text.strip():
        return {}
    found = object_of(text)
    return {"arguments": text} if found is None else found


def object_of(text: str) -> msgspec.Raw | None:
    """Return a text that is a JSON object as it stands, None where it is something else."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = text.encode()
        decode_fields(data)
    except (ValueError, RecursionError):
        return None
    return msgspec.Raw(data)
