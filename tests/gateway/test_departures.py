"""A client that goes in the middle of an answer: the upstream is left, and what was delivered is charged."""

import json
from typing import Any

import pytest

from tests.gateway import fronts, http
from tests.gateway.conftest import Gateway
from tests.gateway.fronts import FRONTS, body_of, path_of

pytestmark = pytest.mark.server

PAIRS = [*zip(FRONTS, FRONTS, strict=True), ("chat", "messages"), ("messages", "gemini"), ("gemini", "responses")]


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    """How a departure is noticed is each server's own affair: both."""
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> None:
    """Four providers of one dialect each."""
    fronts.install(gateway)


def row_of(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """Wait for a request's usage row, and return it."""
    gateway.upstream.wait(lambda: bool(gateway.installed.usage(request_id)))
    [row] = gateway.installed.usage(request_id)
    return row


@pytest.mark.parametrize(("front", "vendor"), PAIRS)
def test_a_client_that_goes_mid_stream_leaves_one_row_and_no_upstream(
    gateway: Gateway, front: str, vendor: str
) -> None:
    model, key = f"{vendor}/stall-late", gateway.installed.key
    path, body = path_of(front, model, stream=True), body_of(front, model, stream=True)
    with http.opened(gateway.port, "POST", path, key=key, body=body) as response:
        assert response.status == 200
        request_id = response.getheader("x-aperture-request-id") or ""
        received = b""
        while b"Gr" not in received and (piece := response.read1(4096)):
            received += piece
    assert b"Gr" in received
    sent = gateway.upstream.last("stall-late")
    gateway.upstream.wait(lambda: sent.closed_at is not None)

    row = row_of(gateway, request_id)
    assert (row["status"], row["error_code"]) == (499, "client_closed")
    # Gemini tells with each piece what it counted so far.
    assert row["usage_source"] in ("partial", "provider")
    assert row["output_tokens"] >= 1
    assert row["cost_nanos"] > 0


@pytest.mark.parametrize("front", FRONTS)
def test_a_client_that_goes_before_its_answer_pays_nothing(gateway: Gateway, front: str) -> None:
    model = f"{front}/silent"
    path, body, before = path_of(front, model), body_of(front, model), len(gateway.upstream.of("silent"))
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {gateway.installed.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with gateway.web.connect() as client:
        client.sendall(head.encode() + data)
        gateway.upstream.wait(lambda: len(gateway.upstream.of("silent")) > before)
    gateway.upstream.wait(lambda: gateway.upstream.last("silent").closed_at is not None)

    gone = "SELECT * FROM billing_usage WHERE model = %s AND status = 499"
    gateway.upstream.wait(lambda: bool(gateway.installed.query(gone, model)))
    rows = gateway.installed.query(gone, model)
    assert {(row["usage_source"], row["cost_nanos"]) for row in rows} == {("none", 0)}


@pytest.mark.parametrize(("front", "vendor"), PAIRS)
def test_where_the_vendor_charges_on_the_stream_is_read_to_its_end(gateway: Gateway, front: str, vendor: str) -> None:
    model, key = f"{vendor}/drip-0.1", gateway.installed.key
    statement = "UPDATE catalog_provider SET on_disconnect = %s WHERE slug = %s RETURNING 1"
    gateway.installed.query(statement, "drain", vendor)
    gateway.follow()
    try:
        path, body = path_of(front, model, stream=True), body_of(front, model, stream=True)
        with http.opened(gateway.port, "POST", path, key=key, body=body) as response:
            request_id = response.getheader("x-aperture-request-id") or ""
            response.read1(64)
        row = row_of(gateway, request_id)
    finally:
        gateway.installed.query(statement, "auto", vendor)
        gateway.follow()
    assert (row["status"], row["usage_source"], row["output_tokens"]) == (499, "provider", 7)
