"""What a candidate says about its sources, as citations, and back. Pure.

`groundingMetadata` counts in bytes of the text (https://ai.google.dev/api/generate-content#Segment), citations in
characters. A text that stands alone and is cited as a whole needs no support, only its source.
"""

import itertools
from bisect import bisect_left
from typing import Any

import msgspec

from gateway.wire.canonical import Citation, Json
from gateway.wire.gemini_generate_content.fieldnames import pick
from gateway.wire.usage import count

# Of one answer: supports times sources could be millions.
CITATIONS_MAX = 4_096


def searches_of(candidate: Json) -> int:
    """Return how many searches a candidate's grounding names."""
    grounding = pick(candidate, "groundingMetadata")
    queries = pick(grounding, "webSearchQueries") if isinstance(grounding, dict) else None
    return len(queries) if isinstance(queries, list) else 0


def citations_of(candidate: Json, text: str, before_bytes: int) -> list[Citation]:
    """Return the citations of a candidate's last text, before which BEFORE_BYTES of text were said."""
    offsets = Offsets(text, before_bytes)
    found: list[Citation] = []
    grounding = pick(candidate, "groundingMetadata")
    if isinstance(grounding, dict):
        found += _grounded(grounding, offsets)
    cited = pick(candidate, "citationMetadata")
    if isinstance(cited, dict):
        sources = pick(cited, "citationSources")
        sources = cited.get("citations") if sources is None else sources
        for source in _objects(sources):
            span = offsets.span(source)
            if span is not None and source.get("uri"):
                found.append(_citation(source, span))
    return found[:CITATIONS_MAX]


class Offsets:
    """Offsets in bytes of all that was said, as characters of one text."""

    def __init__(self, text: str, before_bytes: int) -> None:
        self.before = before_bytes
        self.length = len(text)
        self.ends: list[int] | None = None
        if not text.isascii():
            self.ends = [0, *itertools.accumulate(len(each.encode("utf-8", "surrogatepass")) for each in text)]

    def span(self, segment: Json) -> tuple[int | None, int | None] | None:
        """Return (start, end) in characters, (None, None) for the whole, None for a place in an earlier text."""
        end = count(pick(segment, "endIndex"))
        if end is None:
            return None, None
        if end <= self.before:
            return None
        start = count(pick(segment, "startIndex")) or 0
        return self._character(start - self.before), self._character(end - self.before)

    def _character(self, offset: int) -> int:
        if self.ends is None:
            return max(0, min(offset, self.length))
        return min(bisect_left(self.ends, max(0, offset)), self.length)


def _grounded(grounding: Json, offsets: Offsets) -> list[Citation]:
    chunks = [_source(chunk) for chunk in _all(pick(grounding, "groundingChunks"))]
    supports = _objects(pick(grounding, "groundingSupports"))
    if not supports:
        return [_citation(chunk, (None, None)) for chunk in chunks if chunk is not None]
    found: list[Citation] = []
    for support in supports:
        segment = support.get("segment")
        span = offsets.span(segment if isinstance(segment, dict) else {})
        for index in _all(pick(support, "groundingChunkIndices")):
            number = count(index)
            source = chunks[number] if number is not None and number < len(chunks) else None
            if source is not None and span is not None:
                found.append(_citation(source, span))
        if len(found) >= CITATIONS_MAX:
            break
    return found


def _source(chunk: Any) -> Json | None:
    if not isinstance(chunk, dict):
        return None
    for kind in ("web", "retrievedContext", "maps"):
        source = pick(chunk, kind)
        if isinstance(source, dict):
            return source
    return None


def _citation(source: Json, span: tuple[int | None, int | None]) -> Citation:
    found = [source.get(name) for name in ("uri", "title", "text")]
    url, title, quote = (value if isinstance(value, str) else "" for value in found)
    return Citation(url, title, quote, *span)


def _all(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _objects(found: Any) -> list[Json]:
    return [each for each in _all(found) if isinstance(each, dict)]


class Cited(msgspec.Struct, frozen=True):
    """A citation in bytes of all that is said; `whole`: of the text that it stands with."""

    citation: Citation
    start: int
    end: int
    text: str
    whole: bool


def bytes_count(text: str) -> int:
    """Return how many bytes of UTF-8 a text is."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cited(citation: Citation, text: str, before_bytes: int) -> Cited:
    """Return a text's citation, BEFORE_BYTES of text being said before it."""
    start, end = citation.start or 0, len(text) if citation.end is None else citation.end
    piece = text[start:end]
    begins = before_bytes + bytes_count(text[:start])
    ends = begins + bytes_count(piece)
    return Cited(citation, begins, ends, piece, citation.start is None)


def metadata_of(found: list[Cited], texts_count: int) -> Json:
    """Return citations as `groundingMetadata`; TEXTS_COUNT is how many texts the answer has."""
    numbers: dict[tuple[str, str, str], int] = {}
    for each in found:
        source = each.citation
        numbers.setdefault((source.url, source.title, source.quote), len(numbers))
    chunks = [_chunk(*source) for source in numbers]
    if texts_count == 1 and all(each.whole for each in found):
        return {"groundingChunks": chunks}
    supports = [
        {
            "segment": {"startIndex": each.start, "endIndex": each.end, "text": each.text},
            "groundingChunkIndices": [numbers[each.citation.url, each.citation.title, each.citation.quote]],
        }
        for each in found
    ]
    return {"groundingChunks": chunks, "groundingSupports": supports}


def _chunk(url: str, title: str, quote: str) -> Json:
    source = {name: value for name, value in (("uri", url), ("title", title), ("text", quote)) if value}
    return {"retrievedContext" if quote else "web": source}
