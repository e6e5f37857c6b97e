"""A large request from one dialect into another, without any I/O: what reading and writing it costs.

Invariant: every pair of dialects is measured on the same conversation, which is written in each dialect first.
"""

import json
import time
from dataclasses import dataclass
from statistics import median

from gateway.wire.canonical import Message, Request, Text, Tool, ToolCall, ToolResult
from gateway.wire.codec import Dialect
from gateway.wire.registry import DIALECTS

MESSAGES_COUNT = 200
ROUND = 4
TEXT_CHARS = 4_800
LINE = 'for name in sorted(found):\n    print(f"{name}: déjà vu")  # as it was\n'


@dataclass(frozen=True)
class Pair:
    """One request on its way between two dialects."""

    name: str
    request_bytes: int
    cpu_ms: float


def measure(times: int) -> list[Pair]:
    """Translate the conversation between every two dialects so many times; return the medians."""
    asked = conversation()
    pairs = []
    for caller in DIALECTS.values():
        body = caller.render_request(asked, "bench", None).body
        for upstream in DIALECTS.values():
            if upstream is not caller:
                name = f"{caller.name} → {upstream.name}"
                pairs.append(Pair(name, len(body), median(once_ms(caller, upstream, body) for _ in range(times))))
    return pairs


def once_ms(caller: Dialect, upstream: Dialect, body: bytes) -> float:
    """Return the processor time in milliseconds of one translation."""
    began_s = time.process_time()
    upstream.render_request(caller.parse_request(caller.read(body, "bench", False)), "bench", None)
    return (time.process_time() - began_s) * 1000


def conversation() -> Request:
    """Return a coding agent's conversation: somebody asks, the model calls a tool, the tool answers, the model says."""
    text = (LINE * (TEXT_CHARS // len(LINE) + 1))[:TEXT_CHARS]
    messages: list[Message] = []
    for number in range(MESSAGES_COUNT // ROUND):
        id = f"call_{number:04}"
        arguments = json.dumps({"path": f"src/file{number}.py", "content": text})
        messages += [
            Message("user", (Text(f"{number}. {text}"),)),
            Message("assistant", (Text("I write it."), ToolCall(id, "write_file", arguments))),
            Message("tool", (ToolResult(id, (Text(text),), "write_file"),)),
            Message("assistant", (Text(text),)),
        ]
    schema = {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}}}
    tool = Tool("write_file", "Write a file.", schema)
    return Request(dialect="", model="bench", messages=tuple(messages), tools=(tool,), max_tokens=1000)
