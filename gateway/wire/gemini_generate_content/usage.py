"""`usageMetadata` as disjoint parts, and back. Pure.

https://ai.google.dev/api/generate-content#UsageMetadata. Cumulative: the last one of a stream is the whole answer's.
The prompt's count includes what was read from a cache, the candidates' count leaves thoughts out, what tools brought
in comes on top of both, and the total is the sum. Counts by modality are inside their wholes.

Some gateways count thoughts among the candidates, and early 2.5 models named them in the total alone: the total tells.
"""

from typing import Any

from gateway.wire.canonical import Json
from gateway.wire.gemini_generate_content.fieldnames import pick, snake
from gateway.wire.usage import SEARCHES_MAX, Reading, Tokens, count, tier_of

# Vertex names the tier by the kind of traffic.
TRAFFIC_TIERS = {"ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority"}


def tokens_of(usage: Any, searches: int = 0) -> Tokens | None:
    """Return the tokens of a `usageMetadata`, None where it holds none that could be true.

    SEARCHES is how many queries the answer's grounding names.
    """
    if not isinstance(usage, dict):
        return None
    prompt = count(pick(usage, "promptTokenCount"))
    if prompt is None:
        return None
    reading = Reading()
    made = _count(reading, usage, "candidatesTokenCount") or 0
    thoughts = _count(reading, usage, "thoughtsTokenCount")
    brought = _count(reading, usage, "toolUsePromptTokenCount") or 0
    total = _count(reading, usage, "totalTokenCount")
    cached = reading.within(_count(reading, usage, "cachedContentTokenCount") or 0, prompt)
    output, reasoning = _made(reading, made, thoughts, None if total is None else total - prompt - brought)
    left = prompt - cached + brought
    audio, image = (_by_modality(reading, usage, modality) for modality in ("AUDIO", "IMAGE"))
    audio = reading.within(audio, left)
    image = reading.within(image, left - audio)
    spoken = reading.within(_modality(reading, usage, "candidatesTokensDetails", "AUDIO"), output)
    return Tokens(
        input=left - audio - image,
        cache_read=cached,
        audio_input=audio,
        image_input=image,
        output=output - spoken,
        reasoning=reasoning,
        audio_output=spoken,
        web_searches=min(searches, SEARCHES_MAX),
        service_tier=_tier(usage),
        sound=reading.sound,
    )


def _count(reading: Reading, usage: Json, name: str) -> int | None:
    return reading.first(usage, (name, snake(name)))


def _made(reading: Reading, made: int, thoughts: int | None, told: int | None) -> tuple[int, int]:
    """Return visible output and reasoning; TOLD is what the total leaves for both."""
    if told is None or told == made + (thoughts or 0):
        return made, thoughts or 0
    if thoughts is None and told > made:
        return made, told - made
    if thoughts and told == made and thoughts <= made:
        return made - thoughts, thoughts
    reading.sound = False
    return made, thoughts or 0


def _by_modality(reading: Reading, usage: Json, modality: str) -> int:
    """Return a modality's input that came from no cache."""
    sent = _modality(reading, usage, "promptTokensDetails", modality)
    cached = reading.within(_modality(reading, usage, "cacheTokensDetails", modality), sent)
    return sent - cached + _modality(reading, usage, "toolUsePromptTokensDetails", modality)


def _modality(reading: Reading, usage: Json, name: str, modality: str) -> int:
    details = pick(usage, name)
    if not isinstance(details, list):
        return 0
    found = [each for each in details if isinstance(each, dict) and each.get("modality") == modality]
    return sum(_count(reading, each, "tokenCount") or 0 for each in found)


def _tier(usage: Json) -> str:
    traffic = pick(usage, "trafficType")
    if isinstance(traffic, str) and traffic in TRAFFIC_TIERS:
        return TRAFFIC_TIERS[traffic]
    return tier_of(pick(usage, "serviceTier"), b"")


def metadata_of(tokens: Tokens) -> Json:
    """Return tokens as a `usageMetadata`."""
    cached = tokens.cache_read
    prompt = tokens.input + cached + tokens.cache_write_5m + tokens.cache_write_1h
    prompt += tokens.audio_input + tokens.image_input
    made = tokens.output + tokens.audio_output
    usage: Json = {"promptTokenCount": prompt, "candidatesTokenCount": made}
    if cached:
        usage["cachedContentTokenCount"] = cached
    if tokens.reasoning:
        usage["thoughtsTokenCount"] = tokens.reasoning
    usage["totalTokenCount"] = prompt + made + tokens.reasoning
    sent = {"AUDIO": tokens.audio_input, "IMAGE": tokens.image_input}
    if any(sent.values()):
        usage["promptTokensDetails"] = _details({"TEXT": prompt - sum(sent.values())} | sent)
    if tokens.audio_output:
        usage["candidatesTokensDetails"] = _details({"TEXT": tokens.output, "AUDIO": tokens.audio_output})
    if tokens.service_tier:
        usage["serviceTier"] = tokens.service_tier
    return usage


def _details(counts: dict[str, int]) -> list[Json]:
    return [{"modality": modality, "tokenCount": tokens} for modality, tokens in counts.items() if tokens]
