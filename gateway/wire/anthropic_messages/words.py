"""What of another vendor's answer has no block of its own, and is told Anthropic's clients in their own. Pure."""

from gateway.wire import marks
from gateway.wire.anthropic_messages.tables import NAME
from gateway.wire.canonical import Audio, Citation, Image, Inline, Json, Part, Refusal, Thinking, Url


def said_as_text(part: Part) -> str:
    """Return a part that has no block of its own in an answer as text: a refusal, a picture, what was spoken."""
    match part:
        case Refusal(text):
            return text
        case Audio():
            return part.transcript
        case Image(source=Url(url)):
            return f"![image]({url})"
        case Image(source=Inline(media_type, data)):
            return f"![image](data:{media_type or 'image/png'};base64,{data})"
        case _:
            return ""


def citation_block(citation: Citation) -> Json:
    """Return a citation of a page as a text's block holds it; what Anthropic encrypts there is not ours to say."""
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title or None,
        "encrypted_index": "",
        "cited_text": citation.quote,
    }


def thought(part: Thinking) -> Json:
    """Return a thought as a block; another vendor's, signed or not, behind a mark that says whose it is."""
    own = part.origin == NAME
    signature = part.signature if own else marks.mark(part.signature, part.origin, part.id)
    if part.redacted:
        return {"type": "redacted_thinking", "data": signature}
    return {"type": "thinking", "thinking": part.text, "signature": signature}
