"""A conversation as `contents`: user and model in turns, each part as Gemini takes it. Pure.

* A function's answer names its function, which is found by the call's id. JSON objects go as they are, anything else
  as `result` or `error` (https://ai.google.dev/api/caching#FunctionResponse). Ids are sent: the field is documented
  for both sides, and only those that this package made up are left out.
* A signature of Gemini's own goes with the very part that it came with. Models from generation 3 on refuse a step
  whose first call has none, unless it has the dummy that Google documents; other calls of a step need none.
* Files in a function's answer go inside it from generation 3 on, beside it before.
"""

import itertools
from collections.abc import Iterable

import msgspec

from gateway.wire.canonical import (
    Audio,
    Document,
    Image,
    Inline,
    Json,
    Message,
    Native,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    flat_name,
    instructions,
    plain,
)
from gateway.wire.codec import Unsupported
from gateway.wire.gemini_generate_content import media, names, signatures
from gateway.wire.gemini_generate_content.calls import args_of, is_made, object_of
from gateway.wire.gemini_generate_content.fieldnames import NAME

ROLES = {"user": "user", "tool": "user", "assistant": "model"}
# The first generation whose function answers hold files, and whose calls have to be signed.
SIGNING_GENERATION = 3
# What a vendor's own tool is called by; what it did is told by the text after it.
OWN_RUNS = ("search", "code", "execution", "fetch", "tool", "bash", "shell", "interpreter", "computer", "mcp", "image")


class Turns:
    """A conversation on its way into `contents`, and the names of what it loses."""

    def __init__(self, generation: int, dropped: set[str]) -> None:
        self.signing = generation >= SIGNING_GENERATION
        self.dropped = dropped
        self.functions: dict[str, str] = {}
        self.contents: list[Json] = []

    def take(self, messages: Iterable[Message]) -> list[Json]:
        """Return the system instruction's parts; `contents` holds the rest. Raise Unsupported."""
        messages = tuple(messages)
        told, rest = instructions(messages)
        later = itertools.dropwhile(lambda message: message.role == "system", messages)
        if any(message.role == "system" for message in later):
            self.dropped.add("messages.system_position")
        for number, message in enumerate(rest):
            self._turn(message, f"messages[{number}]")
        if any(text.cache for text in told):
            self.dropped.add("cache_control")
        return [{"text": text.text} for text in told if text.text]

    def _turn(self, message: Message, path: str) -> None:
        if message.name:
            self.dropped.add("name")
        made: list[Json] = []
        for number, part in enumerate(message.parts):
            self._part(part, f"{path}.parts[{number}]", made)
        if self.signing and message.role == "assistant":
            first = next((each for each in made if "functionCall" in each), None)
            if first is not None:
                first.setdefault("thoughtSignature", signatures.DUMMY)
        if not made:
            return
        role = ROLES[message.role]
        if self.contents and self.contents[-1]["role"] == role:
            self.contents[-1]["parts"] += made
        else:
            self.contents.append({"role": role, "parts": made})

    def _part(self, part: Part, path: str, made: list[Json]) -> None:
        if getattr(part, "cache", ""):
            self.dropped.add("cache_control")
        match part:
            case Text(text=text) | Refusal(text=text):
                if text:
                    made.append({"text": text})
            case Thinking():
                self._thinking(part, made)
            case ToolCall():
                made.append(self._call(part, path))
            case ToolResult():
                made += self._answer(part, path)
            case Native(origin=origin, kind=kind, value=value):
                if origin == NAME:
                    made.append(value)
                elif any(word in kind for word in OWN_RUNS):
                    self.dropped.add(kind)
                else:
                    raise Unsupported(f"{path}: Gemini has no {kind}. Leave it out.", path)
            case _:
                made += self._media(part, path)

    def _thinking(self, part: Thinking, made: list[Json]) -> None:
        if part.origin != NAME:
            self.dropped.add("thinking")
        elif part.text or part.is_summary:
            signed = {"thoughtSignature": part.signature} if part.signature else {}
            made.append({"text": part.text, "thought": True} | signed)
        elif made and "thoughtSignature" not in made[-1] and "functionCall" not in made[-1]:
            made[-1]["thoughtSignature"] = part.signature
        else:
            made.append({"text": "", "thoughtSignature": part.signature})

    def _call(self, part: ToolCall, path: str) -> Json:
        name = names.function_name(flat_name(part.namespace, part.name), f"{path}.name")
        if part.id:
            self.functions[part.id] = name
        call: Json = {"name": name, "args": args_of(part)}
        if part.id and not is_made(part.id):
            call["id"] = part.id
        signed = {"thoughtSignature": part.signature} if part.signature and part.origin == NAME else {}
        return {"functionCall": call} | signed

    def _answer(self, part: ToolResult, path: str) -> list[Json]:
        text = plain(part.parts)
        said = object_of(text)
        if part.is_error:
            response: Json | msgspec.Raw = {"error": text if said is None else said}
        else:
            response = {"result": text} if said is None else said
        name = self.functions.get(part.call_id)
        if name is None:
            name = names.function_name(part.name or "unknown", f"{path}.name")
        answer: Json = {"name": name, "response": response}
        if part.call_id and not is_made(part.call_id):
            answer["id"] = part.call_id
        files = [
            each
            for number, inner in enumerate(part.parts)
            if not isinstance(inner, Text)
            for each in self._media(inner, f"{path}.parts[{number}]")
        ]
        if self.signing:
            inside = [each for each in files if "text" not in each]
            files = [each for each in files if "text" in each]
            if inside:
                answer["parts"] = inside
        return [{"functionResponse": answer}, *files]

    def _media(self, part: Image | Audio | Document, path: str) -> list[Json]:
        if isinstance(part, Audio) and not isinstance(part.source, Inline) and part.transcript:
            return [{"text": part.transcript}]
        if part.source is None:
            raise Unsupported(f"{path}: Gemini keeps no sound of earlier answers. Send it, or what was said.", path)
        if isinstance(part, Image) and part.detail not in ("", "auto"):
            self.dropped.add("image.detail")
        context = [{"text": part.context}] if isinstance(part, Document) and part.context else []
        return [*context, media.rendered(part.source, path)]
