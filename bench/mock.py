"""The upstream: one completion, or a stream of 103 events of which each is a write of its own.

    python -m bench.mock PORT

It speaks OpenAI's chat; on /v1/messages it speaks Anthropic's Messages, and those always as a stream.

Invariant: every byte of an answer is rendered before the first request, so that the mock is never the limit.
"""

import asyncio
import json
import sys
from typing import Any

import httptools
import uvloop

TOKENS = 100
USAGE: dict[str, Any] = {
    "prompt_tokens": 20,
    "completion_tokens": 130,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
HEAD = {"id": "chatcmpl-bench0001", "created": 1_700_000_000, "model": "gpt-4o", "system_fingerprint": "fp_bench"}


def completion() -> bytes:
    """Return a whole HTTP answer with about 900 bytes of JSON."""
    message: dict[str, Any] = {"role": "assistant", "content": "All is well. " * 32, "refusal": None, "annotations": []}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    body = json.dumps({**HEAD, "object": "chat.completion", "choices": choices, "usage": USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def stream() -> list[bytes]:
    """Return the writes of a streamed answer in OpenAI's dialect."""
    chunks = (chunk([choice({"content": f" word{number}"})]) for number in range(TOKENS))
    events = [*chunks, chunk([choice({}, "stop")]), chunk([], usage=USAGE), b"data: [DONE]\n\n"]
    return streamed(events)


def messages_stream() -> list[bytes]:
    """Return the writes of a streamed answer in Anthropic's dialect: as many events as the other has."""
    usage = {"input_tokens": USAGE["prompt_tokens"], "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message: dict[str, Any] = {"id": "msg_bench0001", "type": "message", "role": "assistant", "model": "claude"}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    deltas = ({"type": "text_delta", "text": f" word{number}"} for number in range(TOKENS - 2))
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    events = [
        named("message_start", message=message),
        named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(named("content_block_delta", index=0, delta=delta) for delta in deltas),
        named("content_block_stop", index=0),
        named("message_delta", delta=ending, usage={"output_tokens": USAGE["completion_tokens"]}),
        named("message_stop"),
    ]
    return streamed(events)


def streamed(events: list[bytes]) -> list[bytes]:
    """Return the writes of a streamed answer: its head with the first event, and the others."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    writes = [b"%x\r\n%s\r\n" % (len(event), event) for event in events]
    return [head + writes[0], *writes[1:-1], writes[-1] + b"0\r\n\r\n"]


def named(kind: str, **fields: Any) -> bytes:
    """Return one event of Anthropic's."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


def chunk(choices: list[dict[str, Any]], **fields: Any) -> bytes:
    """Return one event."""
    return (
        b"data: %s\n\n" % json.dumps({**HEAD, "object": "chat.completion.chunk", "choices": choices, **fields}).encode()
    )


def choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """Return the one choice of an event."""
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


COMPLETION = completion()
STREAM = stream()
MESSAGES_STREAM = messages_stream()


class Connection(asyncio.Protocol):
    """One client's connection; requests come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: Any = transport
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.url = self.body = b""

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Keep what is asked for."""
        self.url += url

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the request's body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Answer as the body asks."""
        wants_stream = b'"stream":true' in self.body or b'"stream": true' in self.body
        is_messages = self.url.partition(b"?")[0].endswith(b"/v1/messages")
        self.url = self.body = b""
        if is_messages:
            self.write_event(MESSAGES_STREAM, 0)
        elif wants_stream:
            self.write_event(STREAM, 0)
        else:
            self.transport.write(COMPLETION)

    def write_event(self, writes: list[bytes], number: int) -> None:
        """Write one event, and the next one in the loop's next turn: that is what makes it a write of its own."""
        if self.transport.is_closing():
            return
        self.transport.write(writes[number])
        if number + 1 < len(writes):
            self.loop.call_soon(self.write_event, writes, number + 1)


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
