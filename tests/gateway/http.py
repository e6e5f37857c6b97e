"""A client that shows what really came: statuses, headers in order and doubled ones too, and every byte of a body.

Built on the standard library, for a real SDK hides too much; `raw` sends bytes that no client library would.
"""

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 6.0
Headers = Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value, or the empty string; fail where it is there twice."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else ""

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """The error in OpenAI's envelope."""
        assert set(self.json) == {"error", "request_id"}, self.body[:500]
        assert self.json["request_id"] == self.header("x-aperture-request-id")
        return self.json["error"]

    @property
    def request_id(self) -> str:
        """The request's id, as the header tells it."""
        return self.header("x-aperture-request-id")


def call(
    port: int, method: str, path: str, *, key: str = "", body: Any = None, headers: Headers | None = None
) -> Answer:
    """Make one request on a connection of its own; BODY is bytes, or a value that is sent as JSON."""
    with opened(port, method, path, key=key, body=body, headers=headers) as response:
        return Answer(response.status, response.getheaders(), response.read())


@contextmanager
def opened(
    port: int, method: str, path: str, *, key: str = "", body: Any = None, headers: Headers | None = None
) -> Iterator[http.client.HTTPResponse]:
    """Make one request and give its answer, unread; its connection closes with the block."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    sent = {"Authorization": f"Bearer {key}"} if key else {}
    if body is not None and not isinstance(body, bytes):
        body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
    try:
        connection.request(method, path, body=body, headers=sent | dict(headers or {}))
        yield connection.getresponse()
    finally:
        connection.close()


def raw(port: int, *parts: bytes, pause_s: float = 0.0, timeout_s: float = TIMEOUT_S) -> bytes:
    """Send PARTS as they are, PAUSE_S apart, and return all that comes until the server closes."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause_s)
        except (BrokenPipeError, ConnectionResetError):
            pass  # answered and closed before everything was sent; the answer is still to be read
        try:
            while piece := client.recv(65_536):
                received += piece
        except ConnectionResetError:
            pass
    return bytes(received)


def parse(data: bytes) -> Answer:
    """Return the one answer that DATA holds, its length given or ended by the close."""
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(int(status_line.split()[1]), pairs, body)


def chat(model: str, *, stream: bool = False, text: str = "hello", **fields: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    return {**body, "stream": True} if stream else body


def events(body: bytes) -> list[bytes]:
    """Return the data of a stream's events; comments are left out."""
    found = []
    for block in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removeprefix(b"\xef\xbb\xbf").split(b"\n\n"):
        lines = [line.removeprefix(b"data:") for line in block.split(b"\n") if line.startswith(b"data:")]
        if lines:
            found.append(b"\n".join(line.removeprefix(b" ") for line in lines))
    return found
