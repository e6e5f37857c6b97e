"""An upstream's stream as events. Pure.

One chunk is one `GenerateContentResponse`; a whole answer is a stream of one chunk, so both are read by this.

* Texts of neighbouring parts with one `thought` flag are one part; calls come whole. A signature ends its part: what
  Gemini signed beside a thought becomes a Thinking without text right after it, and neighbours of a signed part are
  not joined to it (https://ai.google.dev/gemini-api/docs/thought-signatures).
* The end is told by nothing but the connection's: chunks with a `finishReason` may be followed by more, so `Finished`
  and `Used` come from `finish`. Usage is cumulative, the last one counts, if no output came after it.
* What is kept is the text of the open part, for its citations count in bytes, and the last of each kind of metadata.
"""

from typing import Any

import msgspec

from gateway.wire import sse
from gateway.wire.canonical import (
    Audio,
    Finish,
    Inline,
    Json,
    Logprob,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
)
from gateway.wire.codec import Unreadable
from gateway.wire.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Likely,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Used,
)
from gateway.wire.fields import CHOICES_MAX, InvalidRequest, encode
from gateway.wire.gemini_generate_content import grounding, media, names
from gateway.wire.gemini_generate_content.calls import object_of
from gateway.wire.gemini_generate_content.content import kind_of
from gateway.wire.gemini_generate_content.fieldnames import NAME, WHOLE_MAX, pick
from gateway.wire.gemini_generate_content.usage import tokens_of

decode = msgspec.json.decode
# `content` and `index`: a candidate with no more fields brings a piece of its answer and nothing else.
PLAIN = {"content", "index"}
UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"
# What ends an answer for what it says; all else but these and STOP is an ending that Google calls a failure.
FINISHES: dict[str, Finish] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "CONTINUATION": "pause",
}


class Decoder:
    """One answer as it comes."""

    def __init__(self) -> None:
        self.is_started = False
        self.is_over = False
        self.usage: Any = None
        self.candidates: dict[int, Candidate] = {}

    def feed(self, block: bytes) -> list[Event]:
        """Return the events of a block of whole server-sent events; raise Unreadable."""
        events: list[Event] = []
        for data in payloads(block):
            if self.is_over or not data or data == b"[DONE]":
                continue
            try:
                chunk = decode(data)
            except (ValueError, RecursionError):
                raise Unreadable("sent a chunk that is no JSON") from None
            self.take(chunk, events)
        return events

    def take(self, chunk: Any, events: list[Event]) -> None:
        """Add a chunk's events; raise Unreadable."""
        if type(chunk) is list and chunk:
            # Errors come so where no events were asked for.
            chunk = chunk[0]
        if type(chunk) is not dict:
            raise Unreadable("sent a chunk that is no JSON object")
        if chunk.get("error") is not None:
            self.is_over = True
            events.append(Failed(chunk))
            return
        if not self.is_started:
            self.is_started = True
            events.append(Started(_text(chunk, "responseId"), _text(chunk, "modelVersion")))
        before_count = len(events)
        candidates = chunk.get("candidates")
        if candidates:
            for candidate in candidates if type(candidates) is list else ():
                if type(candidate) is dict:
                    self._candidate(candidate, events)
        elif "promptFeedback" in chunk or "prompt_feedback" in chunk:
            feedback = pick(chunk, "promptFeedback")
            if type(feedback) is dict and pick(feedback, "blockReason"):
                self.candidates.setdefault(0, Candidate(0)).finish = "content_filter"
        usage = pick(chunk, "usageMetadata")
        if usage is not None or len(events) > before_count:
            # One that is older than some of the output is not the whole answer's.
            self.usage = usage

    def _candidate(self, candidate: Json, events: list[Event]) -> None:
        index = candidate.get("index") or 0
        if type(index) is not int or not 0 <= index < CHOICES_MAX:
            return
        writer = self.candidates.get(index)
        if writer is None:
            writer = self.candidates[index] = Candidate(index)
        writer.take(candidate, events)

    def finish(self) -> list[Event]:
        """Return the answer's end, if it had come to one when the connection ended."""
        if self.is_over or not any(each.finish for each in self.candidates.values()):
            return []
        self.is_over = True
        events: list[Event] = []
        for number in sorted(self.candidates):
            self.candidates[number].end(events)
        tokens = tokens_of(self.usage, sum(each.searches for each in self.candidates.values()))
        if tokens is not None:
            events.append(Used(tokens))
        events.append(Ended())
        return events


def payloads(block: bytes) -> list[bytes]:
    """Return the data of a block of whole events; one event of one line, which is most of them, is not taken apart."""
    line = block.strip()
    if line.startswith(b"data:") and b"\n" not in line and b"\r" not in line:
        return [line[5:].strip()]
    return [sse.data_of(event).strip() for event in sse.split(block)]


class Candidate:
    """One choice as it comes."""

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.index = -1
        # What the open part is: "text", "thought" or nothing.
        self.kind = ""
        self.signature = ""
        self.pieces: list[str] = []
        self.before_bytes = 0
        self.sources: Json = {}
        self.searches = 0
        self.has_calls = False
        self.finish: Finish | None = None

    def take(self, candidate: Json, events: list[Event]) -> None:
        """Add the events of a chunk's candidate."""
        is_plain = candidate.keys() <= PLAIN
        if not is_plain:
            self._note(candidate)
        content = candidate.get("content")
        parts = content.get("parts") if type(content) is dict else None
        for part in parts if type(parts) is list else ():
            if type(part) is dict:
                self._part(part, events)
        if not is_plain:
            self._beside(candidate, events)

    def _beside(self, candidate: Json, events: list[Event]) -> None:
        """Add what a candidate says beside its content."""
        likely = pick(candidate, "logprobsResult")
        if likely is not None:
            logprobs = logprobs_of(likely)
            if logprobs:
                events.append(Likely(logprobs, self.choice))
        reason = pick(candidate, "finishReason")
        if type(reason) is str and reason not in ("", UNSPECIFIED):
            self.finish = FINISHES.get(reason, "error")

    def _note(self, candidate: Json) -> None:
        """Keep what a candidate says of its sources."""
        for name in ("groundingMetadata", "citationMetadata"):
            found = pick(candidate, name)
            if found is not None:
                self.sources[name] = found
                self.searches = max(self.searches, grounding.searches_of(candidate))

    def _part(self, part: Json, events: list[Event]) -> None:
        signature = part.get("thoughtSignature") or part.get("thought_signature")
        signature = signature if type(signature) is str else ""
        text = part.get("text")
        if type(text) is str:
            self._said("thought" if part.get("thought") is True else "text", text, signature, events)
            return
        call = pick(part, "functionCall")
        if type(call) is dict:
            self._call(call, signature, events)
            return
        made = _media(part)
        if made is None:
            kind = kind_of(part)
            if kind:
                self._whole(Native(NAME, kind, part), "", events)
            return
        self._whole(made, "", events)
        if signature:
            self._signed_beside(signature, events)

    def _said(self, kind: str, text: str, signature: str, events: list[Event]) -> None:
        if not text and not signature:
            return
        if self.kind != kind or (self.signature and text):
            self.close(events)
            if text or kind == "thought":
                self._begin(kind, events)
        if text:
            self.pieces.append(text)
            events.append(PartDelta(self.index, text, self.choice))
        if not signature:
            return
        if not self.kind:
            self._signed_beside(signature, events)
        elif self.signature:
            self.close(events)
            self._signed_beside(signature, events)
        else:
            self.signature = signature

    def _begin(self, kind: str, events: list[Event]) -> None:
        self.index += 1
        self.kind = kind
        begun = Text("") if kind == "text" else Thinking("", is_summary=True)
        events.append(PartStarted(self.index, begun, self.choice))

    def _signed_beside(self, signature: str, events: list[Event]) -> None:
        self._whole(Thinking(""), signature, events)

    def _whole(self, part: Part, signature: str, events: list[Event], text: str = "") -> None:
        """Add a part that comes in one piece."""
        self.close(events)
        if isinstance(part, Audio) and isinstance(part.source, Inline):
            text, part = part.source.data, Audio(Inline(part.source.media_type, ""))
        self.index += 1
        events.append(PartStarted(self.index, part, self.choice))
        if text:
            events.append(PartDelta(self.index, text, self.choice))
        if signature:
            events.append(PartSigned(self.index, signature, NAME, self.choice))
        events.append(PartEnded(self.index, self.choice))

    def _call(self, call: Json, signature: str, events: list[Event]) -> None:
        id, name = call.get("id"), call.get("name")
        part = ToolCall(
            id if type(id) is str else "",
            names.original(name) if type(name) is str else "",
            "",
        )
        self.has_calls = True
        self._whole(part, signature, events, _arguments(call.get("args")))

    def close(self, events: list[Event]) -> None:
        """End the open part, with what is known of its sources and the signature that it came with."""
        kind, signature = self.kind, self.signature
        if not kind:
            return
        self.kind = self.signature = ""
        if kind == "text":
            text = "".join(self.pieces)
            if self.sources:
                for citation in grounding.citations_of(self.sources, text, self.before_bytes):
                    events.append(PartCited(self.index, citation, self.choice))
            self.before_bytes += grounding.bytes_count(text)
        elif signature:
            events.append(PartSigned(self.index, signature, NAME, self.choice))
        self.pieces = []
        events.append(PartEnded(self.index, self.choice))
        if kind == "text" and signature:
            self._signed_beside(signature, events)

    def end(self, events: list[Event]) -> None:
        """Add the choice's end."""
        self.close(events)
        finish = self.finish or "stop"
        if finish == "stop" and self.has_calls:
            finish = "tool_calls"
        events.append(Finished(finish, choice=self.choice))


def _arguments(args: Any) -> str:
    """Return a call's arguments as JSON of an object; some gateways write it as a text."""
    if type(args) is str and object_of(args) is not None:
        return args
    try:
        return encode(args if type(args) is dict else {}).decode()
    except RecursionError:
        raise Unreadable("sent a call that is nested too deeply") from None


def _media(part: Json) -> Part | None:
    """Return a picture, sound or file that a model made; thoughts' own are none of the answer."""
    blob, file = pick(part, "inlineData"), pick(part, "fileData")
    if part.get("thought") is True:
        return None
    try:
        if type(blob) is dict:
            return media.inline_part(blob, "inlineData")
        if type(file) is dict:
            return media.file_part(file, "fileData")
    except InvalidRequest:
        raise Unreadable("sent a file that cannot be read") from None
    return None


def _text(holder: Json, name: str) -> str:
    found = pick(holder, name)
    return found if type(found) is str else ""


def logprobs_of(result: Any) -> tuple[Logprob, ...]:
    """Return the likelihoods of a `logprobsResult`, what cannot be read left out."""
    if type(result) is not dict:
        return ()
    chosen = pick(result, "chosenCandidates")
    tops = pick(result, "topCandidates")
    tops = tops if type(tops) is list else []
    found = []
    for number, each in enumerate(chosen if type(chosen) is list else ()):
        likely = _logprob(each)
        if likely is None:
            continue
        others = tops[number].get("candidates") if number < len(tops) and type(tops[number]) is dict else None
        top = tuple(made for other in (others if type(others) is list else ()) if (made := _logprob(other)))
        found.append(msgspec.structs.replace(likely, top=top))
    return tuple(found)


def _logprob(candidate: Any) -> Logprob | None:
    if type(candidate) is not dict:
        return None
    token, value = candidate.get("token"), pick(candidate, "logProbability")
    if type(value) is int and abs(value) <= WHOLE_MAX:
        value = float(value)
    if type(token) is not str or type(value) is not float:
        return None
    return Logprob(token, value)


def likelihoods(logprobs: tuple[Logprob, ...]) -> Json:
    """Return likelihoods as a `logprobsResult`."""
    made: Json = {"chosenCandidates": [_chosen(each) for each in logprobs]}
    if any(each.top for each in logprobs):
        made["topCandidates"] = [{"candidates": [_chosen(other) for other in each.top]} for each in logprobs]
    return made


def _chosen(each: Logprob) -> Json:
    return {"token": each.token, "logProbability": each.logprob}
