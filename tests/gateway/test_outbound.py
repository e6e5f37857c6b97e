"""The guarded client over real sockets."""

import gzip
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway import networks, outbound
from tests.local_server import Asked, Reply, serving

OPERATOR = networks.operator_policy(["allow"])


def answering(reply: Reply) -> Callable[[Asked], Reply]:
    return lambda _asked: reply


def resolver(*rounds: list[str]) -> tuple[Any, list[str]]:
    """A resolver that gives another answer each time, screened as the real one; and the names that it was asked."""
    asked: list[str] = []

    async def resolve(host: str, _port: int, policy: networks.Policy) -> list[str]:
        asked.append(host)
        return networks.screen(host, rounds[min(len(asked), len(rounds)) - 1], policy)

    return resolve, asked


async def send(transport: httpx.AsyncBaseTransport, url: str, timeout_s: float = 5) -> outbound.Answer:
    return await outbound._fetch(transport, httpx.Request("GET", url), timeout_s=timeout_s, bytes_max=1000)


async def test_an_answer_comes_back_whole_and_nothing_of_the_environment_goes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving(answering(Reply(201, {"ok": True}, {"x-one": "1"}))) as server:
        answer = await outbound.fetch("POST", f"{server.url}/path?q=1", policy=OPERATOR, body={"a": 1})
    assert (answer.status, answer.json(), answer.headers["x-one"]) == (201, {"ok": True}, "1")
    asked = server.asked[0]
    assert (asked.path, asked.json()) == ("/path?q=1", {"a": 1})
    assert (asked.headers["accept-encoding"], asked.headers["host"]) == ("identity", f"127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0",
     "0.0.0.0", "localhost.", "127.0.0.1.", "①②⑦.0.0.1"],
)  # fmt: skip
async def test_a_user_s_url_never_reaches_this_machine(host: str) -> None:
    with serving(answering(Reply(body=b"inside"))) as server, pytest.raises(outbound.OutboundError):
        await outbound.fetch("GET", f"http://{host}:{server.port}/", policy=networks.PUBLIC_ONLY, timeout_s=5)
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1/", "//example.com", "example.com", "http://",
     "http://user:secret@example.com/", "http://[::1", "javascript:alert(1)", "", "http://a:99999999/"],
)  # fmt: skip
async def test_what_is_no_plain_http_url_is_refused_unsent(url: str) -> None:
    with pytest.raises(outbound.Forbidden) as caught:
        await outbound.fetch("GET", url, policy=OPERATOR)
    assert "secret" not in str(caught.value)


async def test_the_checked_address_is_the_one_connected_to_under_the_host_s_own_name() -> None:
    resolve, names = resolver(["127.0.0.1"])
    with serving(answering(Reply(body=b"yes"))) as server:
        answer = await send(outbound.PinnedTransport(OPERATOR, resolve), f"http://models.example:{server.port}/")
    assert answer.body == b"yes"
    assert names == ["models.example"]
    assert server.asked[0].headers["host"] == f"models.example:{server.port}"


async def test_a_name_that_turns_private_after_the_check_gains_nothing() -> None:
    resolve, names = resolver(["127.0.0.2"], ["127.0.0.1"])
    listed = networks.operator_policy(["127.0.0.2/32"])
    with serving(answering(Reply(body=b"inside"))) as server:
        transport = outbound.PinnedTransport(listed, resolve)
        with pytest.raises(outbound.Unreachable):
            await send(transport, f"http://rebind.example:{server.port}/")
        with pytest.raises(outbound.Forbidden):
            await send(outbound.PinnedTransport(listed, resolve), f"http://rebind.example:{server.port}/")
    assert server.asked == []
    assert names == ["rebind.example", "rebind.example"]


async def test_the_next_address_is_tried_where_the_first_refuses() -> None:
    resolve, _ = resolver(["127.0.0.2", "127.0.0.1"])
    with serving(answering(Reply(body=b"second"))) as server:
        answer = await send(outbound.PinnedTransport(OPERATOR, resolve), f"http://two.example:{server.port}/")
    assert answer.body == b"second"


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with serving(answering(Reply(302, b"", {"location": "http://127.0.0.1:1/metadata"}))) as server:
        answer = await outbound.fetch("GET", server.url, policy=OPERATOR)
    assert (answer.status, len(server.asked)) == (302, 1)


async def test_an_answer_larger_than_the_cap_is_refused() -> None:
    with serving(answering(Reply(body=b"x" * 2000))) as server, pytest.raises(outbound.BadAnswer, match="1000 bytes"):
        await outbound.fetch("GET", server.url, policy=OPERATOR, bytes_max=1000)


async def test_a_compressed_answer_is_refused_unread() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    reply = Reply(body=bomb, headers={"content-encoding": "gzip"})
    with serving(answering(reply)) as server, pytest.raises(outbound.BadAnswer, match="compressed"):
        await outbound.fetch("GET", server.url, policy=OPERATOR)


async def test_the_time_bounds_the_whole_exchange_not_each_byte() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(outbound.TimedOut, match=r"within 0\.3 s"):
            await outbound.fetch("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", policy=OPERATOR, timeout_s=0.3)
        assert time.monotonic() - started < 2


async def test_a_refused_connection_names_the_host_and_neither_path_nor_query() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(outbound.Unreachable) as caught:
        await outbound.fetch("GET", f"http://127.0.0.1:{port}/hidden?key=secret", policy=OPERATOR)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["line\nbreak-secret", "ключ-secret"])
async def test_a_header_that_cannot_be_sent_is_refused_without_its_value(value: str) -> None:
    with serving(answering(Reply())) as server, pytest.raises(outbound.Forbidden) as caught:
        await outbound.fetch("GET", server.url, policy=OPERATOR, headers={"authorization": value})
    assert "secret" not in str(caught.value)
