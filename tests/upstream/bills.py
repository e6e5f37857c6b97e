"""Scenarios about money: the request says in its `metadata` what usage to report, when, and how much to say.

`prompt`, `completion`: the usage that is reported. `gate`: wait until the test has opened the gate of this name.
`pieces`: how many chunks a stream has, one each `pause` seconds. An exchange that was answered whole is `billed`.
`counts`: the usage comes with the `first` chunk, or with `all` of them. `fails`: the stream ends with an error event.
"""

import asyncio
from typing import Any

from tests.upstream import answers
from tests.upstream.connection import Exchange, Wire
from tests.upstream.faults import EVENT_STREAM

open_gates: set[str] = set()


async def bill(exchange: Exchange, wire: Wire) -> None:
    """Answer with the usage that the request's metadata names."""
    told: dict[str, str] = exchange.json.get("metadata") or {}
    await opened(told.get("gate"))
    usage = usage_of(told)
    if exchange.streams:
        await wire.head(200, *EVENT_STREAM)
        for number, data in enumerate(answers.texts(exchange.model, answers.pieces(int(told.get("pieces", "3"))))):
            counted = told.get("counts") == "all" or (told.get("counts") == "first" and not number)
            if told.get("fails") and b'"finish_reason":"stop"' in data:
                await wire.chunk(answers.event(answers.error("overloaded")))
                await wire.end()
                return
            await wire.chunk(data[:-3] + b',"usage":' + answers.dump(usage) + b"}\n\n" if counted else data)
            await wire.pause(float(told.get("pause", "0")))
        if usage is not None:
            await wire.chunk(answers.event(answers.usage_chunk(exchange.model, usage)))
        await wire.chunk(answers.DONE)
        await wire.end()
    else:
        await wire.whole(200, answers.completion(exchange.model, usage=usage))
    exchange.billed = (usage["prompt_tokens"], usage["completion_tokens"]) if usage else None


async def opened(gate: str | None) -> None:
    """Wait until a gate is open; another thread opens it."""
    while not (gate is None or gate in open_gates):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def usage_of(told: dict[str, str]) -> dict[str, Any] | None:
    """Return the usage that metadata tells of."""
    if "prompt" not in told:
        return None
    prompt, completion = int(told["prompt"]), int(told["completion"])
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
