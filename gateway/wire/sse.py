"""Frame server-sent events on bytes. Pure.

Lines end with `\\n`, `\\r\\n` or `\\r` and nothing else, an event ends with an empty line
(https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream). Bytes are never decoded to
find a border, so U+2028 and its like inside a text stay where they are.
"""

import re

# Atomic, for a CR LF must never count as two line ends.
LINE_END = rb"(?>\r\n|\n|\r)"
BORDER = re.compile(LINE_END + LINE_END)
LINE = re.compile(LINE_END)
# A border that begins in one piece and ends in another begins in this many bytes at most.
SEAM_BYTES = 3
BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event did not end within the bound."""


class Framer:
    """Cut a byte stream into blocks of whole events; keep the unfinished rest, at most `bytes_max` of it.

    What is kept is looked at once, so that an event in a million pieces costs little more than in one.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held = bytearray()
        self.seam = b""

    def feed(self, data: bytes) -> bytes:
        """Return the whole events that are complete now, byte for byte; raise EventTooLarge."""
        if not self.held and data.endswith(b"\n\n") and b"\r" not in data:
            return data
        text = self.seam + data if self.seam else data
        end = text.rfind(b"\n\n") + 2 if b"\r" not in text else _last_border(text)
        if end < 2:
            self._hold(data, text)
            return b""
        end -= len(self.seam)
        block, rest = data[:end], data[end:]
        if self.held:
            block = self.flush() + block
        if rest:
            self._hold(rest, rest)
        return block

    def _hold(self, data: bytes, text: bytes) -> None:
        if len(self.held) + len(data) > self.bytes_max:
            raise EventTooLarge(f"An event is larger than {self.bytes_max} bytes.")
        self.held += data
        self.seam = text[-SEAM_BYTES:]

    def flush(self) -> bytes:
        """Return what is left once the stream has ended."""
        rest = bytes(self.held)
        self.held.clear()
        self.seam = b""
        return rest


def _last_border(data: bytes) -> int:
    """Return where the last border ends; one that may go on as `\\r\\n` in the next piece has not ended."""
    end = 0
    for match in BORDER.finditer(data):
        if match.end() == len(data) and data.endswith(b"\n\r"):
            break
        end = match.end()
    return end


def split(block: bytes) -> list[bytes]:
    """Return the block's events, each with the empty line that ends it."""
    if block.find(b"\n\n") == len(block) - 2 and b"\r" not in block:
        return [block]
    if b"\r" not in block and block.endswith(b"\n\n") and not block.endswith(b"\n\n\n"):
        return [event + b"\n\n" for event in block.split(b"\n\n")[:-1]]
    events = []
    start = 0
    for match in BORDER.finditer(block):
        events.append(block[start : match.end()])
        start = match.end()
    if start < len(block):
        events.append(block[start:])
    return events


def data_of(event: bytes) -> bytes:
    """Return the event's data: its `data` lines, with or without the space, joined by newlines."""
    # Nearly every event is one such line, with at most one other before it.
    start = 0 if event.startswith(b"data:") else event.find(b"\n") + 1
    end = len(event) - 2
    if (
        event.startswith(b"data:", start)
        and event.find(b"\n", start) == end
        and b"\r" not in event
        and not event.startswith(BOM)
    ):
        return event[start + 6 : end] if event[start + 5 : start + 6] == b" " else event[start + 5 : end]
    pieces = []
    for line in LINE.split(event.removeprefix(BOM)):
        if line.startswith(b"data:"):
            pieces.append(line[6:] if line[5:6] == b" " else line[5:])
    return b"\n".join(pieces)
