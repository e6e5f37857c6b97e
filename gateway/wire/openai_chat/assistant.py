"""What an assistant says beside its text, read and written: thoughts, calls of tools, citations. Pure.

The same message stands in requests and in answers, so both are read here. Thoughts come as `reasoning_content`
(https://api-docs.deepseek.com/guides/reasoning_model), as `reasoning`, or as `reasoning_details`
(https://openrouter.ai/docs/use-cases/reasoning-tokens), which alone hold signatures and so go before the others.
What a caller sends back has marks on what other vendors signed (`marked`); an upstream's answer has none of ours.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.wire import marks
from gateway.wire.canonical import Audio, Citation, Inline, Json, Part, Refusal, Thinking, ToolCall
from gateway.wire.fields import encode
from gateway.wire.openai_chat.parts import cache_of, read_image, text_of, wrong
from gateway.wire.openai_chat.tables import NAME

replace = msgspec.structs.replace

TEXT, SUMMARY, ENCRYPTED = "reasoning.text", "reasoning.summary", "reasoning.encrypted"
PLAIN = ("reasoning_content", "reasoning")
# Between a detail's format and its signature. No base64 alphabet has it, and no format.
SEAL = "|"
NO_ARGUMENTS = "{}"
# Where Google's endpoint of this format puts the signature of a call.
SIGNATURE_KEYS = ("google", "thought_signature")

# What tells pieces of one thought from the next: their type and their index.
Key = tuple[Any, Any]


# --- Thoughts -------------------------------------------------------------------------------------------------------
def plain_thought(message: Json) -> str:
    """Return what was thought where it is told as a text."""
    for name in PLAIN:
        found = message.get(name)
        if isinstance(found, str) and found:
            return found
    return ""


def details_of(found: Any, *, marked: bool) -> Iterator[tuple[Key, Thinking]]:
    """Yield the pieces of thoughts among `reasoning_details`."""
    for detail in found if isinstance(found, list) else ():
        kind = detail.get("type") if isinstance(detail, dict) else None
        if kind in (TEXT, SUMMARY, ENCRYPTED):
            yield (kind, detail.get("index")), _piece(detail, kind, marked=marked)


def _piece(detail: Json, kind: str, *, marked: bool) -> Thinking:
    texts = {name: value for name, value in detail.items() if isinstance(value, str)}
    text = texts.get("summary" if kind == SUMMARY else "text", "")
    signature = texts.get("data" if kind == ENCRYPTED else "signature", "")
    origin = id = ""
    if signature and marked and signature.startswith(marks.MARK):
        signature, origin, id = marks.unmark(signature, NAME)
    elif signature:
        named, origin = texts.get("format", ""), NAME
        signature = f"{named}{SEAL}{signature}" if named or SEAL in signature else signature
    return Thinking(
        "" if kind == ENCRYPTED else text,
        signature,
        origin,
        id=texts.get("id", id),
        is_summary=kind == SUMMARY,
        redacted=kind == ENCRYPTED,
    )


def continues(key: Key, piece: Thinking, last_key: Key | None, *, is_signed: bool) -> bool:
    """Tell whether a piece goes on with the thought before it: only what is encrypted always comes whole."""
    return key == last_key and not is_signed and not piece.redacted


def thoughts(message: Json, *, marked: bool) -> list[Thinking]:
    """Return what an assistant thought."""
    found: list[Thinking] = []
    last_key: Key | None = None
    for key, piece in details_of(message.get("reasoning_details"), marked=marked):
        if found and continues(key, piece, last_key, is_signed=bool(found[-1].signature)):
            last = found[-1]
            found[-1] = replace(piece, text=last.text + piece.text, id=last.id or piece.id)
        else:
            found.append(piece)
        last_key = key
    plain = "" if found else plain_thought(message)
    return [Thinking(plain)] if plain else found


def detail(thought: Thinking, index: int) -> Json:
    """Return a thought, or a piece of one, as it stands among `reasoning_details`; `type` and `index` join pieces."""
    written: Json = {"type": TEXT, "index": index}
    if thought.redacted:
        written["type"] = ENCRYPTED
    elif thought.is_summary:
        written |= {"type": SUMMARY, "summary": thought.text}
    else:
        written["text"] = thought.text
    if thought.id:
        written["id"] = thought.id
    if not thought.signature:
        return written
    signature = thought.signature
    if thought.origin != NAME:
        signature = marks.mark(signature, thought.origin, thought.id)
    elif SEAL in signature:
        named, _, signature = signature.partition(SEAL)
        if named:
            written["format"] = named
    written["data" if thought.redacted else "signature"] = signature
    return written


# --- Calls ----------------------------------------------------------------------------------------------------------
def arguments_of(found: Any) -> str:
    """Return a call's arguments as JSON text: some upstreams write the object itself, or nothing for none."""
    if isinstance(found, str):
        return found.lstrip() or NO_ARGUMENTS
    return NO_ARGUMENTS if found is None else encode(found).decode()


def calls_of(message: Json, base: str, path: str, *, marked: bool) -> Iterator[ToolCall]:
    """Yield the calls of tools in a message, the old `function_call` last; raise InvalidRequest.

    BASE is what ids are made of where there are none.
    """
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise wrong(f"{path}.tool_calls", "a list")
    number = 0
    for number, call in enumerate(calls or (), 1):
        yield _call(call, marks.made_id(base, number - 1), f"{path}.tool_calls[{number - 1}]", marked=marked)
    old = message.get("function_call")
    if isinstance(old, dict):
        where = f"{path}.function_call"
        yield ToolCall(marks.made_id(base, number), text_of(old, "name", where), arguments_of(old.get("arguments")))


def _call(call: Any, made: str, path: str, *, marked: bool) -> ToolCall:
    if not isinstance(call, dict):
        raise wrong(path, "an object")
    id = call.get("id")
    id, signature, origin = id if isinstance(id, str) and id else made, "", ""
    if marked:
        id, signature, origin = marks.unsigned_id(id)
    if not signature:
        signature, origin = call_signature(call, marked=marked)
    cache = cache_of(call)
    custom = call.get("custom")
    if isinstance(custom, dict):
        name, text = text_of(custom, "name", f"{path}.custom"), custom.get("input")
        text = text if isinstance(text, str) else ""
        return ToolCall(id, name, text, custom=True, signature=signature, origin=origin, cache=cache)
    function = call.get("function")
    if not isinstance(function, dict):
        raise wrong(f"{path}.function", "an object")
    name = text_of(function, "name", f"{path}.function")
    arguments = arguments_of(function.get("arguments"))
    return ToolCall(id, name, arguments, signature=signature, origin=origin, cache=cache)


def call_signature(call: Json, *, marked: bool) -> tuple[str, str]:
    """Return (signature, origin) of a call as Google's endpoint writes it."""
    found: Any = call.get("extra_content")
    for key in SIGNATURE_KEYS:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, str) or not found:
        return "", ""
    return marks.unmark(found, NAME)[:2] if marked else (found, NAME)


def signed_call(signature: str) -> Json:
    """Return the field of a call that holds its signature."""
    vendor, name = SIGNATURE_KEYS
    return {"extra_content": {vendor: {name: signature}}}


def written_call(id: str, name: str, text: str, *, custom: bool) -> Json:
    """Return a call of a function with its arguments, or of a custom tool with its input."""
    if custom:
        return {"id": id, "type": "custom", "custom": {"name": name, "input": text}}
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def beside(message: Json, path: str) -> Iterator[Part]:
    """Yield what an assistant made beside its text: pictures, sound, a refusal; raise InvalidRequest."""
    images = message.get("images")
    for number, image in enumerate(images if isinstance(images, list) else ()):
        if isinstance(image, dict):
            yield read_image(image, f"{path}.images[{number}]")
    sound = message.get("audio")
    if isinstance(sound, dict):
        texts = {name: each for name, each in sound.items() if isinstance(each, str)}
        source = Inline("", texts["data"]) if "data" in texts else None
        yield Audio(source, texts.get("transcript", ""), texts.get("id", ""))
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        yield Refusal(refusal)


# --- Citations ------------------------------------------------------------------------------------------------------
def citations_of(annotations: Any) -> Iterator[Citation]:
    """Yield what a text cites."""
    for annotation in annotations if isinstance(annotations, list) else ():
        cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
        if isinstance(cited, dict):
            url, title, quote = (
                found if isinstance(found := cited.get(name), str) else "" for name in ("url", "title", "content")
            )
            start, end = (
                found if type(found := cited.get(name)) is int else None for name in ("start_index", "end_index")
            )
            yield Citation(url, title, quote, start, end)


def annotation(citation: Citation, offset: int, length: int) -> Json:
    """Return a citation of a text of LENGTH characters that begins OFFSET characters into the whole content."""
    start = 0 if citation.start is None else citation.start
    end = length if citation.end is None else citation.end
    cited: Json = {
        "url": citation.url,
        "title": citation.title,
        "start_index": offset + start,
        "end_index": offset + end,
    }
    if citation.quote:
        cited["content"] = citation.quote
    return {"type": "url_citation", "url_citation": cited}
