"""What a response or a transcription used, as disjoint parts, from what the upstream reports. Pure.

https://platform.openai.com/docs/api-reference/realtime-server-events/response/done. Cached tokens are inside the input,
of each kind; those of sound are counted as cached like the others, for a price has one rate for what was cached.
Without the kinds of the cached tokens, text is taken for cached before sound is.
"""

import math
from typing import Any

from gateway.wire.usage import Reading, Tokens, count

# The model hears a second of sound as so many tokens.
HEARD_PER_S = 10
SECONDS_MAX = 24 * 3600


def of_response(usage: Any) -> Tokens | None:
    """Return what a response's usage object tells, None where it tells nothing that could be true."""
    if type(usage) is not dict:
        return None
    context, made = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    if context is None or made is None:
        return None
    reading = Reading()
    total = reading.optional(usage, "total_tokens")
    if total is not None and total != context + made:
        reading.sound = False
    into, out = usage.get("input_token_details"), usage.get("output_token_details")
    audio = reading.within(reading.optional(into, "audio_tokens") or 0, context)
    image = reading.within(reading.optional(into, "image_tokens") or 0, context - audio)
    text = context - audio - image
    told = reading.optional(into, "text_tokens")
    if told is not None and told != text:
        reading.sound = False
    cached_text, cached_audio, cached_image = _cached(reading, into, text, audio, image)
    spoken = reading.within(reading.optional(out, "audio_tokens") or 0, made)
    reasoning = reading.within(reading.optional(out, "reasoning_tokens") or 0, made - spoken)
    return Tokens(
        input=text - cached_text,
        cache_read=cached_text + cached_audio + cached_image,
        audio_input=audio - cached_audio,
        image_input=image - cached_image,
        output=made - spoken - reasoning,
        reasoning=reasoning,
        audio_output=spoken,
        sound=reading.sound,
    )


def _cached(reading: Reading, into: Any, text: int, audio: int, image: int) -> tuple[int, int, int]:
    """Return how many tokens of each kind were cached."""
    whole = reading.within(reading.optional(into, "cached_tokens") or 0, text + audio + image)
    kinds = into.get("cached_tokens_details") if type(into) is dict else None
    of_audio = reading.optional(kinds, "audio_tokens")
    of_image = reading.optional(kinds, "image_tokens")
    of_text = reading.optional(kinds, "text_tokens")
    if of_audio is None and of_image is None and of_text is None:
        of_text = min(whole, text)
        of_audio = min(whole - of_text, audio)
        of_image = whole - of_text - of_audio
    found = (
        reading.within(of_text or 0, text),
        reading.within(of_audio or 0, audio),
        reading.within(of_image or 0, image),
    )
    if sum(found) != whole:
        reading.sound = False
    return found


def of_transcription(usage: Any) -> Tokens | None:
    """Return what a transcription's usage tells, in tokens or as a duration; None where neither could be true.

    A second is as many tokens of sound as the model itself would hear.
    """
    if type(usage) is not dict:
        return None
    if usage.get("type") == "duration":
        seconds = usage.get("seconds")
        if type(seconds) is not int and type(seconds) is not float:
            return None
        if not 0 <= seconds <= SECONDS_MAX:
            return None
        return Tokens(audio_input=math.ceil(seconds * HEARD_PER_S))
    context, made = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    if context is None or made is None:
        return None
    reading = Reading()
    details = usage.get("input_token_details")
    text = reading.within(reading.optional(details, "text_tokens") or 0, context)
    return Tokens(input=text, audio_input=context - text, output=made, sound=reading.sound)
