"""What a scripted model makes of a conversation, in no vendor's words: it calls what it may, and repeats what it saw.

`Turn` is what a vendor's module read out of a request, `Said` what it has to write. A thought is signed, and the
signature is checked when it comes back: one that another vendor made, or that was cut, is refused.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

THOUGHT = ("First the question, ", "then the answer: 日本語.")
PIECES = ("Grüße, ", "世界 ", "👋🏽!")
REFUSAL = "I can not help with that."


class Refused(Exception):
    """A request that the vendor does not take: its status, its words, and its code for it."""

    def __init__(self, message: str, *, status: int = 400, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


@dataclass(frozen=True)
class Offered:
    """A tool that may be called; a `custom` one takes a text."""

    name: str
    schema: dict[str, Any]
    custom: bool = False


@dataclass
class Turn:
    """What a request asks for. `choice` is "auto", "none", "required" or a tool's name; `result` what tools said."""

    text: str = ""
    tools: list[Offered] = field(default_factory=list)
    choice: str = "auto"
    parallel: bool = True
    result: str | None = None
    images: list[str] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    reasons: bool = False


@dataclass
class Said:
    """An answer: what was thought, what is said in which pieces, which tools are called, and why it ends."""

    thought: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    calls: list[tuple[Offered, str]] = field(default_factory=list)
    finish: str = "stop"
    # The number of the first call, in its id; vendors' ids are never the same twice.
    first: int = 0

    @property
    def text(self) -> str:
        """All that is said."""
        return "".join(self.texts)


def answer(turn: Turn, scenario: str) -> Said:
    """Return what the model of this name says."""
    thought = THOUGHT if turn.reasons else ()
    if scenario == "refuses":
        return Said(thought, (REFUSAL,), finish="refusal")
    if scenario == "length":
        return Said(thought, PIECES[:1], finish="length")
    calls = called(turn)
    if calls:
        return Said(thought, ("Let me look. ",) if "aloud" in turn.text else (), calls, "calls")
    if turn.schema is not None:
        whole = dumped(example(turn.schema))
        return Said(thought, (whole[: len(whole) // 2], whole[len(whole) // 2 :]))
    if turn.result is not None:
        return Said(thought, ("The tool said: ", turn.result))
    if turn.images:
        return Said(thought, ("I see ", ", ".join(turn.images)))
    return Said(thought, PIECES)


def called(turn: Turn) -> list[tuple[Offered, str]]:
    """Return the calls of tools with their arguments: the first one offered, until it has answered."""
    if turn.choice == "none" or not turn.tools or (turn.result is not None and turn.choice == "auto"):
        return []
    named = [tool for tool in turn.tools if tool.name == turn.choice]
    if not named and turn.choice not in ("auto", "required"):
        raise Refused(f"Tool choice {turn.choice!r} not found in tools.")
    tool = (named or turn.tools)[0]
    call = (tool, "*** Begin Patch" if tool.custom else dumped(example(tool.schema)))
    return [call, call] if turn.parallel and "twice" in turn.text else [call]


def example(schema: dict[str, Any]) -> Any:
    """Return a value that a JSON schema allows."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = str(kind[0] if isinstance(kind, list) else kind).lower()
    if kind == "object":
        return {name: example(value) for name, value in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [example(schema.get("items") or {"type": "string"})]
    return {"string": "Köln", "integer": 7, "number": 1.5, "boolean": True}.get(kind)


def dumped(value: Any) -> str:
    """Return VALUE as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def halves(text: str) -> tuple[str, str]:
    """Return a text in two pieces."""
    return text[: len(text) // 2], text[len(text) // 2 :]


def signature(vendor: str, text: str) -> str:
    """Return a vendor's signature of a thought."""
    return base64.b64encode(hashlib.sha256(f"{vendor}\0{text}".encode()).digest() * 2).decode()


def picture(media_type: str, data: str) -> str:
    """Return what is seen of an inline image; raise Refused where it is none."""
    try:
        size = len(base64.b64decode(data, validate=True))
    except ValueError:
        raise Refused("Could not process image: invalid base64 data") from None
    return f"{media_type} of {size} bytes"


def known(value: dict[str, Any], allowed: str, message: str) -> None:
    """Raise Refused where VALUE has a field that is not among the words of ALLOWED; MESSAGE has `{}` for its name."""
    names = allowed.split()
    for name in value:
        if name not in names:
            raise Refused(message.format(name), param=name)
