"""The pure parts of reception, and its timer."""

import asyncio
import json

import pytest

from aperture_site import reception
from aperture_site.reception import REFUSALS, Bounds, Deadline, ambiguous, opens_socket, refusal

BOUNDS = Bounds(
    body_bytes=1000, header_bytes=2000, receive_timeout_s=1.5, write_timeout_s=2.0, region="eu-1", render=refusal
)
HOST = (b"host", b"a")


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_is_a_whole_answer(code: str) -> None:
    head, _, body = refusal(code, BOUNDS, "req_1").partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    document = json.loads(body)
    assert status_line.startswith(f"HTTP/1.1 {REFUSALS[code].status} ")
    assert int(headers["content-length"]) == len(body)
    assert (headers["x-aperture-region"], headers["x-aperture-request-id"]) == ("eu-1", "req_1")
    assert headers["access-control-allow-origin"] == "*"
    assert document["request_id"] == "req_1"
    assert document["error"]["code"] == code
    assert "{" not in document["error"]["message"]


def test_a_refusal_names_the_bound_that_was_passed() -> None:
    assert b"1000 bytes" in refusal("request_too_large", BOUNDS, "r")
    assert b"2000 bytes" in refusal("headers_too_large", BOUNDS, "r")
    assert b"1.5 s" in refusal("request_timeout", BOUNDS, "r")


def test_a_refusal_to_head_has_no_body_and_the_same_head() -> None:
    whole, bare = BOUNDS.refuse("invalid_request", b""), BOUNDS.refuse("invalid_request", b"HEAD")
    assert bare.endswith(b"\r\n\r\n")
    assert len(bare) == len(whole.partition(b"\r\n\r\n")[0]) + 4


KEY, VERSION = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"sec-websocket-version", b"13")


@pytest.mark.parametrize(
    ("method", "headers", "opens"),
    [
        (b"GET", [HOST, KEY, VERSION], True),
        (b"POST", [HOST, KEY, VERSION], False),
        (b"GET", [HOST, KEY], False),
        (b"GET", [HOST, VERSION], False),
        (b"GET", [HOST, KEY, VERSION, VERSION], False),
        (b"GET", [HOST, KEY, KEY, VERSION], False),
        (b"GET", [HOST, KEY, (b"sec-websocket-version", b"99")], False),
        (b"GET", [HOST, (b"sec-websocket-key", b"c2hvcnQ="), VERSION], False),
    ],
)
def test_a_websocket_s_handshake_is_whole_or_none(
    method: bytes, headers: list[tuple[bytes, bytes]], opens: bool
) -> None:
    assert opens_socket(method, headers) is opens


@pytest.mark.parametrize(
    "headers",
    [[HOST], [HOST, (b"content-length", b"0")], [HOST, (b"transfer-encoding", b"Chunked")]],
)
def test_one_way_to_read_a_request_is_enough(headers: list[tuple[bytes, bytes]]) -> None:
    assert not ambiguous(headers, "1.1")


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([], "1.1"),
        ([HOST, HOST], "1.1"),
        ([HOST, (b"content-length", b"")], "1.1"),
        ([HOST, (b"content-length", b"1"), (b"content-length", b"1")], "1.1"),
        ([HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")], "1.1"),
        ([(b"transfer-encoding", b"chunked")], "1.0"),
        ([HOST], "0.9"),
        ([HOST], "2.0"),
    ],
)
def test_two_ways_to_read_a_request_are_one_too_many(headers: list[tuple[bytes, bytes]], version: str) -> None:
    assert ambiguous(headers, version)


def test_request_ids_differ() -> None:
    assert reception.new_request_id() != reception.new_request_id()


@pytest.mark.quiet
async def test_a_deadline_expires_once_and_only_when_it_was_not_moved() -> None:
    expired: list[float] = []
    loop = asyncio.get_running_loop()
    deadline = Deadline(loop, 0.1, lambda: expired.append(loop.time()))
    began_at = loop.time()
    deadline.start()
    await asyncio.sleep(0.06)
    deadline.start()
    await asyncio.sleep(0.07)
    assert expired == []
    await asyncio.sleep(0.1)
    assert len(expired) == 1
    assert 0.15 < expired[0] - began_at < 0.25


async def test_a_cleared_deadline_does_not_expire() -> None:
    expired: list[int] = []
    deadline = Deadline(asyncio.get_running_loop(), 0.02, lambda: expired.append(1))
    deadline.start()
    deadline.clear()
    await asyncio.sleep(0.05)
    deadline.start()
    deadline.stop()
    await asyncio.sleep(0.05)
    assert expired == []
