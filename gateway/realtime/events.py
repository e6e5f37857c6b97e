"""The frames of a realtime session, read no deeper than is needed, and the few that are ours. Pure.

https://platform.openai.com/docs/api-reference/realtime-client-events and realtime-server-events. Invariant: a frame
that is passed on is the same text but for the model's name; an event of unknown type is an event like any other.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from gateway.errors import Fault
from gateway.wire import top_level
from gateway.wire.account_ids import NAMES

NO_VALUE = msgspec.Raw(b"")
MODEL = b'"model"'
# What a caller may close a connection with (https://www.rfc-editor.org/rfc/rfc6455#section-7.4, and IANA's registry);
# the rest is reserved for what no frame says.
NORMAL, GOING_AWAY, UNSUPPORTED, POLICY, FAILED, LATER = 1000, 1001, 1003, 1008, 1011, 1013
SENDABLE = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


class Event(msgspec.Struct):
    """What is read of any event; a field that is absent is empty."""

    type: str = ""
    event_id: msgspec.Raw = NO_VALUE
    response_id: msgspec.Raw = NO_VALUE
    session: msgspec.Raw = NO_VALUE
    response: msgspec.Raw = NO_VALUE
    item: msgspec.Raw = NO_VALUE
    error: msgspec.Raw = NO_VALUE
    usage: msgspec.Raw = NO_VALUE
    delta: msgspec.Raw = NO_VALUE
    audio: msgspec.Raw = NO_VALUE

    @property
    def is_delta(self) -> bool:
        """Whether it brings a part of a response's output."""
        return self.type.startswith("response.") and self.type.endswith(".delta")

    @property
    def is_sound(self) -> bool:
        """Whether that part is sound: `response.output_audio.delta`, once `response.audio.delta`."""
        return self.type.endswith("audio.delta")


_decode = msgspec.json.Decoder(Event).decode


def read(frame: str) -> Event | None:
    """Return the event that a frame holds, or None where it holds none."""
    try:
        return _decode(frame)
    except (ValueError, RecursionError):
        return None


def value(raw: msgspec.Raw) -> Any:
    """Return a field as Python's value, None where it is absent or cannot be read."""
    try:
        return msgspec.json.decode(raw) if raw else None
    except (ValueError, RecursionError):
        return None


def holder(raw: msgspec.Raw) -> dict[str, Any]:
    """Return a field that is an object, or an empty one."""
    found = value(raw)
    return found if type(found) is dict else {}


def text(raw: msgspec.Raw) -> str:
    """Return a field that is a text, or an empty one."""
    found = value(raw)
    return found if type(found) is str else ""


def named(frame: str, event: Event, model: str) -> str:
    """Return a server's frame with the caller's name for the model in its session or response."""
    for raw in (event.session, event.response):
        if MODEL in bytes(raw):
            frame = _renamed(frame, bytes(raw), model)
    return frame


class OtherModel(ValueError):
    """A client's event names a model that is not the session's; the message is the name's place."""


def translated(frame: str, event: Event, names: Collection[str], upstream_id: str) -> str:
    """Return a client's frame with the upstream's name for the model, where it has one of NAMES for it.

    Raise OtherModel where it names another: a session is for the model that it was opened with.
    """
    for field, raw in (("session", event.session), ("response", event.response)):
        asked = holder(raw).get("model")
        if asked is None:
            continue
        if asked not in names:
            raise OtherModel(f"{field}.model")
        frame = _renamed(frame, bytes(raw), upstream_id)
        after = read(frame)
        # A key that is escaped, or there twice, is not what was replaced.
        if after is None or holder(getattr(after, field)).get("model") != upstream_id:
            raise OtherModel(f"{field}.model")
    return frame


def _renamed(frame: str, part: bytes, model: str) -> str:
    renamed = top_level.replace_string(part, MODEL, msgspec.json.encode(model))
    return frame.replace(part.decode(), renamed.decode(), 1)


def kept(event: Event) -> str | None:
    """Return the path of what a client's event names by an id of the vendor's account; None where it names nothing.

    All callers share the operator's one account there. Items of the session's own conversation are its caller's.
    """
    for field, raw in (("session", event.session), ("response", event.response)):
        if type(holder(raw).get("prompt")) is dict:
            return f"{field}.prompt"
    asked = holder(event.response).get("input")
    for item in [holder(event.item), *(asked if type(asked) is list else ())]:
        parts = item.get("content") if type(item) is dict else None
        for part in parts if type(parts) is list else ():
            found = next((name for name in part if name in NAMES), None) if type(part) is dict else None
            if found is not None:
                return f"content.{found}"
    return None


def update(session: bytes) -> str:
    """Return the client's event that sets a session to this JSON object; its type, which it has to have, is ours."""
    fields = {"type": "realtime"} | msgspec.json.decode(session, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({"type": "session.update", "session": fields}).decode()


def failure(fault: Fault, event_id: str, cause: str | None = None) -> str:
    """Return the `error` event that tells a fault; CAUSE is the id of the client's event that brought it about."""
    error = {
        "type": fault.row.type,
        "code": fault.code,
        "message": fault.message,
        "param": fault.param,
        "event_id": cause,
    }
    return msgspec.json.encode({"type": "error", "event_id": f"event_{event_id}", "error": error}).decode()


def lost(message: str, event_id: str) -> str:
    """Return the `error` event that tells of an upstream's loss; MESSAGE says what happened."""
    error = {"type": "server_error", "code": "upstream_lost", "message": message, "param": None, "event_id": None}
    return msgspec.json.encode({"type": "error", "event_id": f"event_{event_id}", "error": error}).decode()


def carried(code: int | None, instead: int) -> int:
    """Return the close code to pass on for one that was received: INSTEAD for none, and for what may not be sent."""
    return code if code is not None and code in SENDABLE else instead


# By the fault's code, how a session is closed that it ends; what is not here is closed with POLICY.
CLOSED_WITH = {"storage_unavailable": LATER, "limits_unavailable": LATER, "internal_error": FAILED}


def closing(fault: Fault) -> int:
    """Return the close code of a session that this fault ends."""
    return CLOSED_WITH.get(fault.code, POLICY)
