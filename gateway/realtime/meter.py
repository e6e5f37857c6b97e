"""How much a session's conversation holds and its responses have delivered, in tokens, from its events. Pure.

For holds, and for responses that end without the upstream's own count; one that has it is charged by that.

What each response read is known from the usage of the last one; what came since is estimated: text as
`gateway.estimate` does, sound by its length. A second of it is ten tokens heard and twenty spoken, which is what
OpenAI's models count; its length follows from the size of the base64 and from the format that the session names.
"""

from typing import Any

import msgspec

from billing.pricing import NOTHING, Parts
from gateway import estimate
from gateway.realtime.events import Event, holder
from gateway.realtime.usage import HEARD_PER_S
from gateway.wire.usage import TOKENS_MAX, Tokens, count

SPOKEN_PER_S = 20
# Of base64, four characters are three bytes. 16 bits at 24 kHz, and 8 at 8 kHz (G.711).
PCM_CHARS_PER_S, G711_CHARS_PER_S = 64_000, 10_666
G711 = ("audio/pcmu", "audio/pcma", "g711_ulaw", "g711_alaw")
BYTES_PER_TOKEN = 4
# What a response that voice starts may read at least: a minute of speech, most of it not yet said.
UNSAID_TOKENS = 60 * HEARD_PER_S
# What a conversation may hold at a model whose context nobody knows.
UNKNOWN_CONTEXT_TOKENS = 128_000


class Part(msgspec.Struct):
    """What is read of an item's content."""

    audio: msgspec.Raw = msgspec.Raw(b"")


class Item(msgspec.Struct):
    """What is read of a conversation's item."""

    content: list[Part] = []


_decode_item = msgspec.json.Decoder(Item).decode


class Delivered:
    """What one response has read, as far as is known, and what of it was delivered."""

    __slots__ = ("audio_chars", "given", "text_bytes")

    def __init__(self, given: Parts) -> None:
        self.given = given
        self.text_bytes = 0
        self.audio_chars = 0

    @property
    def produced(self) -> bool:
        """Whether there is any output."""
        return bool(self.text_bytes or self.audio_chars)

    def parts(self, chars_per_s: int) -> Parts:
        """Return the estimate of what the response used; CHARS_PER_S is the sound's."""
        return msgspec.structs.replace(
            self.given,
            output=-(-self.text_bytes // BYTES_PER_TOKEN),
            audio_output=-(-self.audio_chars * SPOKEN_PER_S // chars_per_s),
        )


class Meter:
    """One session's counts. What the session is set to follows the server's events, which confirm it."""

    def __init__(self, context_tokens: int | None) -> None:
        """Begin a session; CONTEXT_TOKENS is the most that the model reads, if that is known."""
        self.context_tokens = context_tokens or UNKNOWN_CONTEXT_TOKENS
        # What the last response read, what the settings alone are, and what came since.
        self.read = 0
        self.settings = 0
        self.text = 0
        self.audio = 0
        # Of the sound that is not part of the conversation yet, and of what became that last.
        self.buffered_chars = 0
        self.committed_tokens = 0
        self.heard_chars_per_s = self.spoken_chars_per_s = PCM_CHARS_PER_S
        self.speaks = True
        self.listens = False
        # None for a limit that was not set. Servers detect voice unless they are told not to.
        self.output_tokens_max: int | None = None
        self.answers_voice = True
        self.transcription: str | None = None

    @property
    def stands(self) -> bool:
        """Whether the server may begin something that costs, without being told."""
        return self.answers_voice or self.transcription is not None

    @property
    def sounds(self) -> bool:
        """Whether sound may go in or come out."""
        return self.speaks or self.listens

    def input_tokens(self, more: int = 0) -> int:
        """Return what a response may read now; MORE is what it alone is given."""
        known = max(self.read, self.settings) + self.text + self.audio + self._buffered()
        return min(known + more, self.context_tokens)

    def begin(self, more: int = 0) -> Delivered:
        """Return the counts of a response that begins: what an earlier one has read is probably cached by now."""
        if self.read:
            return Delivered(Parts(cache_read=self.read, input=self.text + more, audio_input=self.audio))
        return Delivered(Parts(input=self.settings + self.text + more, audio_input=self.audio))

    def end(self, delivered: Delivered, tokens: Tokens | None, *, apart: bool) -> None:
        """Take over what a response read and made; APART: it is no part of the conversation."""
        if apart or tokens is None:
            return
        given = delivered.given
        self.text = max(0, self.text - given.input) + tokens.output + tokens.reasoning
        self.audio = max(0, self.audio - given.audio_input) + tokens.audio_output
        self.read = tokens.input + tokens.cache_read + tokens.audio_input + tokens.image_input

    def hear(self, event: Event) -> None:
        """Count what a client's event puts into the conversation."""
        if event.type == "input_audio_buffer.append":
            self.buffered_chars += len(bytes(event.audio))
            self.listens = True
        elif event.type == "conversation.item.create":
            text, chars = item_tokens(bytes(event.item))
            self.text += text
            self.audio += -(-chars * HEARD_PER_S // self.heard_chars_per_s)
            self.listens = self.listens or chars > 0

    def follow(self, event: Event) -> None:
        """Follow what a server's event says of the session."""
        if event.type in ("session.created", "session.updated"):
            self.settings = estimate.text_tokens(bytes(event.session))
            self._set(holder(event.session))
        elif event.type == "input_audio_buffer.committed":
            self.committed_tokens = self._buffered()
            self.audio += self.committed_tokens
            self.buffered_chars = 0
        elif event.type == "input_audio_buffer.cleared":
            self.buffered_chars = 0

    def deliver(self, delivered: Delivered, event: Event, sign: int = 1) -> None:
        """Count a part of a response's output, or take it back (SIGN of -1)."""
        size = sign * max(0, len(bytes(event.delta)) - 2)
        if event.is_sound:
            delivered.audio_chars += size
        else:
            delivered.text_bytes += size

    def partly(self, delivered: Delivered) -> Parts:
        """Return what a response used that ended without a count: nothing where nothing was made."""
        return delivered.parts(self.spoken_chars_per_s) if delivered.produced else NOTHING

    def _buffered(self) -> int:
        return -(-self.buffered_chars * HEARD_PER_S // self.heard_chars_per_s)

    def _set(self, session: dict[str, Any]) -> None:
        audio = _inner(session, "audio")
        into, out = _inner(audio, "input"), _inner(audio, "output")
        self.heard_chars_per_s = _chars_per_s(into.get("format", session.get("input_audio_format")))
        self.spoken_chars_per_s = _chars_per_s(out.get("format", session.get("output_audio_format")))
        modalities = session.get("output_modalities", session.get("modalities"))
        self.speaks = type(modalities) is not list or "audio" in modalities
        self.output_tokens_max = tokens_max(session)
        detects = into["turn_detection"] if "turn_detection" in into else session.get("turn_detection", {})
        self.answers_voice = session.get("type") != "transcription" and _answers(detects)
        transcription = into.get("transcription", session.get("input_audio_transcription"))
        self.transcription = None
        if type(transcription) is dict:
            model = transcription.get("model")
            self.transcription = model if type(model) is str else ""


def tokens_max(holding: dict[str, Any]) -> int | None:
    """Return what limits a response's output, None for nothing that does."""
    told = holding.get("max_output_tokens", holding.get("max_response_output_tokens"))
    return count(told, TOKENS_MAX) or None


def item_tokens(item: bytes) -> tuple[int, int]:
    """Return an item's tokens without its sound, and how many characters of base64 that is."""
    try:
        sounds = [bytes(part.audio) for part in _decode_item(item).content if part.audio]
    except (ValueError, RecursionError):
        sounds = []
    for sound in sounds:
        item = item.replace(sound, b'""', 1)
    return estimate.input_tokens(item), sum(map(len, sounds))


def _answers(detection: Any) -> bool:
    """Tell whether voice that is detected is answered: also after silence, where that has a limit."""
    if type(detection) is not dict:
        return detection is not None
    return detection.get("create_response") is not False or detection.get("idle_timeout_ms") is not None


def _chars_per_s(form: Any) -> int:
    kind = form.get("type") if type(form) is dict else form
    return G711_CHARS_PER_S if kind in G711 else PCM_CHARS_PER_S


def _inner(outer: dict[str, Any], name: str) -> dict[str, Any]:
    found = outer.get(name)
    return found if type(found) is dict else {}
