"""What the items of a conversation and of an answer have in common: texts, thoughts, calls, citations. Pure.

https://platform.openai.com/docs/api-reference/responses/object. An item that is not understood is a `Native` of this
dialect, whole. Thoughts of another vendor stand behind a mark in `encrypted_content`; a foreign thought without a
signature has the mark alone, so that it is known again when another vendor's model goes on with the conversation.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.wire import marks
from gateway.wire.canonical import Citation, Json, Logprob, Native, Part, Refusal, Text, Thinking, ToolCall

NAME = "openai_responses"
PATH = "/v1/responses"

# Behind a mark: whether the thought was shown in full, or not at all. No base64 alphabet has the dot.
FULL, REDACTED = ".full", ".redacted"
URL_CITATIONS = ("url_citation",)
FILE_CITATIONS = ("file_citation", "container_file_citation")
TEXTS = frozenset({"input_text", "output_text", "text", "summary_text"})
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"

# Where a part stands in its item.
Key = tuple[str, int]


def text_of(value: Any) -> str:
    """Return a text, "" for anything else."""
    return value if type(value) is str else ""


def list_of(value: Any) -> list[Json]:
    """Return the objects in a list; anything else holds none."""
    return [each for each in value if type(each) is dict] if type(value) is list else []


def json_text(value: Any) -> str:
    """Return a call's arguments as text; some upstreams write them as an object."""
    return msgspec.json.encode(value).decode() if type(value) in (dict, list) else text_of(value)


def position(value: Any) -> int | None:
    """Return a place in a text."""
    return value if type(value) is int else None


# --- Citations and logprobs ---------------------------------------------------------------------------------------
def citation(annotation: Json) -> Citation | None:
    """Return what an annotation of a text says of its source; None where that is nothing."""
    kind = text_of(annotation.get("type"))
    if kind in URL_CITATIONS:
        return Citation(
            url=text_of(annotation.get("url")),
            title=text_of(annotation.get("title")),
            start=position(annotation.get("start_index")),
            end=position(annotation.get("end_index")),
        )
    if kind in FILE_CITATIONS:
        return Citation(title=text_of(annotation.get("filename")))
    return None


def citations(annotations: Any) -> tuple[Citation, ...]:
    """Return the citations among a text's annotations."""
    return tuple(found for each in list_of(annotations) if (found := citation(each)) is not None)


def annotation(cited: Citation, length: int) -> Json:
    """Return the annotation of a text of LENGTH characters."""
    if not cited.url:
        return {"type": "file_citation", "file_id": "", "filename": cited.title, "index": 0}
    return {
        "type": "url_citation",
        "url": cited.url,
        "title": cited.title,
        "start_index": cited.start or 0,
        "end_index": length if cited.end is None else cited.end,
    }


def logprobs(value: Any) -> tuple[Logprob, ...]:
    """Return how likely the tokens were."""
    return tuple(_logprob(each) for each in list_of(value))


def _logprob(each: Json) -> Logprob:
    number, told = each.get("logprob"), each.get("bytes")
    return Logprob(
        token=text_of(each.get("token")),
        logprob=float(number) if isinstance(number, int | float) else 0.0,
        bytes=tuple(byte for byte in told if type(byte) is int) if type(told) is list else None,
        top=logprobs(each.get("top_logprobs")),
    )


def likely(found: Iterable[Logprob], *, inner: bool = False) -> list[Json]:
    """Return logprobs as this dialect writes them."""
    return [
        {"token": each.token, "logprob": each.logprob, "bytes": list(each.bytes or each.token.encode())}
        | ({} if inner else {"top_logprobs": likely(each.top, inner=True)})
        for each in found
    ]


# --- Thoughts -----------------------------------------------------------------------------------------------------
def thoughts(item: Json) -> list[tuple[Key, Thinking]]:
    """Return a reasoning item's pieces, signed at the last; none where nothing is shown or sealed."""
    signature, id = text_of(item.get("encrypted_content")), text_of(item.get("id"))
    found: list[tuple[Key, Thinking]] = []
    for name, is_summary in (("summary", True), ("content", False)):
        for number, piece in enumerate(list_of(item.get(name))):
            if text := text_of(piece.get("text")):
                found.append(((name, number), Thinking(text, id=id, is_summary=is_summary)))
    if not signature:
        return found
    key, last = found.pop() if found else (("sealed", 0), Thinking("", id=id))
    return [*found, (key, msgspec.structs.replace(last, signature=signature, origin=NAME))]


def sealed(part: Thinking) -> str:
    """Return the `encrypted_content` of a thought for a caller of this dialect; "" for an open one of its own."""
    if part.signature and part.origin == NAME:
        return part.signature
    if not part.signature and is_own(part):
        return ""
    told = REDACTED if part.redacted else "" if part.is_summary else FULL
    return marks.mark(part.signature, part.origin, part.id) + told


def is_own(part: Thinking) -> bool:
    """Tell whether a thought without a signature came from this dialect: no other names its thoughts."""
    return part.id.startswith("rs_")


def unsealed(pieces: list[Thinking], item: Json) -> list[Thinking]:
    """Return a reasoning item's pieces as a caller sent them back, with the origin that the mark tells."""
    text = text_of(item.get("encrypted_content"))
    if not text.startswith(marks.MARK):
        return [msgspec.structs.replace(piece, origin=NAME) for piece in pieces]
    redacted, full = text.endswith(REDACTED), text.endswith(FULL)
    signature, origin, id = marks.unmark(text.removesuffix(REDACTED).removesuffix(FULL), NAME)
    bare = [
        msgspec.structs.replace(
            piece, signature="", origin=origin, id=id, redacted=redacted, is_summary=not (full or redacted)
        )
        for piece in pieces
    ]
    return [*bare[:-1], msgspec.structs.replace(bare[-1], signature=signature)]


# --- An answer's items --------------------------------------------------------------------------------------------
def call(item: Json) -> ToolCall:
    """Return a call of a function or of a custom tool."""
    custom = item.get("type") == "custom_tool_call"
    return ToolCall(
        id=text_of(item.get("call_id")) or text_of(item.get("id")),
        name=text_of(item.get("name")),
        arguments=text_of(item.get("input")) if custom else json_text(item.get("arguments")),
        custom=custom,
        namespace=text_of(item.get("namespace")),
    )


CALLS = frozenset({"function_call", "custom_tool_call"})


def pieces(item: Json) -> list[tuple[Key, Part]]:
    """Return the parts of an answer's item, each with its place in it."""
    kind = text_of(item.get("type"))
    if kind == "message":
        return [
            (("content", number), _content(part))
            for number, part in enumerate(list_of(item.get("content")))
            if part.get("type") in ("output_text", "refusal")
        ]
    if kind in CALLS:
        return [(("call", 0), call(item))]
    if kind == "reasoning":
        return list(thoughts(item))
    return [(("native", 0), Native(NAME, kind, item))] if kind else []


def _content(part: Json) -> Part:
    if part["type"] == "refusal":
        return Refusal(text_of(part.get("refusal")))
    return Text(text_of(part.get("text")), citations(part.get("annotations")))


def item_logprobs(item: Json) -> tuple[Logprob, ...]:
    """Return how likely a message's tokens were."""
    if item.get("type") != "message":
        return ()
    return tuple(each for part in list_of(item.get("content")) for each in logprobs(part.get("logprobs")))
