"""The money API in the real application: what is loaded when, and what an answer carries."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from aperture_site import asgi
from tests.billing.api_scenery import API, Acme, credited, found_acme
from tests.wire import orm


def test_a_web_process_loads_nothing_of_it_at_its_start() -> None:
    program = (
        "import sys, aperture_site.asgi\n"
        "print(sorted(name for name in sys.modules if name.startswith(('billing.api', 'rest_framework.'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.replace("'", '"'))) <= {"rest_framework.apps"}


async def ask(
    path: str, method: str = "GET", pieces: Sequence[bytes] = (b"",), **headers: str
) -> tuple[dict[str, list[str]], bytes]:
    """Return headers and body of an answer of the application that the servers serve."""
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    sent_headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), *sent_headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await asgi.http(scope, receive, send)
    found: dict[str, list[str]] = {}
    for name, value in sent[0]["headers"]:
        found.setdefault(name.decode().lower(), []).append(value.decode())
    return found, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.django_db(transaction=True)
async def test_an_answer_is_named_once_as_its_body_says() -> None:
    headers, body = await ask(f"{API}/balance")
    assert headers["x-aperture-request-id"] == [json.loads(body)["request_id"]]
    assert len(headers["x-aperture-region"]) == 1
    assert "access-control-allow-origin" not in headers
    headers, _ = await ask("/admin/login/")
    assert len(headers["x-aperture-request-id"]) == 1


@pytest.mark.django_db(transaction=True)
async def test_a_table_is_sent_as_it_is_read(recwarn: pytest.WarningsRecorder) -> None:
    def make() -> tuple[Acme, str]:
        acme = found_acme()
        credited(acme, "1.00")
        return acme, acme.key(acme.alice)

    _, key = await orm(make)
    headers, body = await ask(f"{API}/ledger.csv", authorization=f"Bearer {key}")
    assert headers["content-type"] == ["text/csv; charset=utf-8"]
    assert body.count(b"\r\n") == 2
    assert not recwarn.list


@pytest.mark.django_db(transaction=True)
async def test_a_body_in_pieces_without_a_length_is_read_and_bounded() -> None:
    def make() -> tuple[Acme, str]:
        acme = found_acme()
        return acme, acme.key(acme.alice, "billing:write")

    _, key = await orm(make)
    about = {"authorization": f"Bearer {key}", "content_type": "application/json", "transfer_encoding": "chunked"}
    _, body = await ask(f"{API}/settings", "PATCH", [b'{"low_balance', b'_nanos": 5}'], **about)
    assert json.loads(body)["low_balance_nanos"] == 5
    _, body = await ask(f"{API}/settings", "PATCH", [b" " * 40_000] * 2, **about)
    assert json.loads(body)["error"]["code"] == "request_too_large"
