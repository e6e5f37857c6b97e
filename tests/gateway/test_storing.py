"""What is charged is answered, also where it cannot be stored."""

from typing import Any

import pytest

from gateway.responses import Storing


@pytest.mark.parametrize("body", [b'{"id":"r","output":"\\ud800"}', b"[]", b'{"a":1e999}', b"[" * 5_000 + b"]" * 5_000])
async def test_an_answer_that_cannot_be_stored_goes_to_its_caller_as_it_is(body: bytes) -> None:
    runtime: Any = None
    event = b'event: response.completed\ndata: {"type":"response.completed","response":' + body + b"}\n\n"
    assert await Storing(1, []).whole(runtime, body) == body
    assert await Storing(1, []).end(runtime, event) == event
