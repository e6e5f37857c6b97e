"""The bound on Stripe's webhook, over sockets: what is too large is refused before it is read."""

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.servers import WebProcess, start_web

pytestmark = pytest.mark.server
SERVERS = ["daphne", "uvicorn"]
BYTES_MAX = 256 * 1024
PATH = b"/webhooks/stripe"


@pytest.fixture(scope="module", params=SERVERS)
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    keys = {"APERTURE_STRIPE_SECRET_KEY": "sk_test", "APERTURE_STRIPE_WEBHOOK_SECRET": "whsec_test"}
    # No engine is asked before the signature holds.
    folder = tmp_path_factory.mktemp("web")
    urls = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none", "REDIS_URL": "redis://127.0.0.1:9/0"}
    with start_web(request.param, "aperture_site.asgi:application", folder, **keys, **urls) as process:
        yield process


def answer_of(client: socket.socket) -> bytes:
    """Return all that comes until the other end closes."""
    received = b""
    while piece := client.recv(65_536):
        received += piece
    return received


def post(body: bytes, signature: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n" % PATH
    return head + b"Stripe-Signature: %s\r\nContent-Length: %d\r\n\r\n" % (signature, len(body)) + body


def test_a_declared_length_over_the_bound_is_refused_before_a_byte_is_sent(web: WebProcess) -> None:
    """CVE-2026-64868 of new-api: bodies were read whole before their signature."""
    began_at = time.monotonic()
    with web.connect() as client:
        client.sendall(post(b"")[:-4].replace(b"Length: 0", b"Length: %d" % (BYTES_MAX + 1)) + b"\r\n\r\n")
        assert answer_of(client).startswith(b"HTTP/1.1 413")
    assert time.monotonic() - began_at < 1


def test_a_chunked_body_over_the_bound_is_refused_while_it_comes(web: WebProcess) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    sent = 0
    with web.connect() as client:
        client.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % PATH)
        client.setblocking(False)
        ends_at = time.monotonic() + 5
        while time.monotonic() < ends_at:
            try:
                if client.recv(1, socket.MSG_PEEK):
                    break
            except BlockingIOError:
                pass
            try:
                sent += client.send(chunk) if sent < 16 * len(chunk) else 0
            except (BlockingIOError, ConnectionError):
                time.sleep(0.01)
        client.setblocking(True)
        client.settimeout(5)
        assert client.recv(12) == b"HTTP/1.1 413"


def test_a_body_within_the_bound_reaches_the_check_of_its_signature(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(post(b"x" * BYTES_MAX, b"t=1,v1=00"))
        answer = answer_of(client)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"No valid signature" in answer


def test_a_signed_event_that_cannot_be_stored_is_not_taken(web: WebProcess) -> None:
    """Stripe sends again what was not answered with 200; saying so without a row would lose the event."""
    body = json.dumps({"object": "event", "id": "evt_1", "type": "x", "created": 1}).encode()
    now = int(time.time())
    digest = hmac.new(b"whsec_test", b"%d." % now + body, hashlib.sha256).hexdigest().encode()
    with web.connect() as client:
        client.sendall(post(body, b"t=%d,v1=%s" % (now, digest)))
        assert answer_of(client).startswith(b"HTTP/1.1 500")


def test_a_web_process_starts_without_stripe_price_data_tokenizer_and_background() -> None:
    """Of Celery it has what the rows of schedules are made of (docs/decisions.md), and neither application nor task."""
    loaded = "import sys, aperture_site.asgi, aperture_site.urls; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", loaded], env=os.environ, capture_output=True, check=True, text=True
    ).stdout.split()
    assert "billing.payments.views" in modules
    assert not {"stripe", "genai_prices", "bpe_openai", "celery.worker", "celery.beat"} & set(modules)
    own = {"aperture_site.celery", "aperture_site.jobs", "aperture_site.beat", "billing.tasks", "gateway.tasks"}
    assert not own & set(modules)
