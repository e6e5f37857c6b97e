"""Daphne's WebSockets: bounded in what they queue, and able to refuse with an answer of the application's own."""

import asyncio

from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from aperture_site import reception
from aperture_site.reception import Message

QUEUED_MESSAGES = 8


class Socket(WebSocketProtocol):
    """Daphne's WebSocket, which can also refuse with an answer of the application's own.

    The ASGI extension "websocket.http.response": status, headers and body in place of a bare 403.
    """

    _denial: Message | None = None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803
        """Queue one message; stop reading while the application has enough."""
        super().onMessage(payload, isBinary)
        if self.application_queue.qsize() > QUEUED_MESSAGES:
            self.transport.pauseProducing()

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: object = None) -> None:  # noqa: N803
        """Refuse a handshake in our own shape; 403 is the application's, which closed before it accepted."""
        if code == 403:
            super().sendHttpErrorResponse(code, reason, responseHeaders)
        else:
            bounds = self.factory.server_class.bounds
            self.sendData(bounds.refuse("internal_error" if code >= 500 else "invalid_request", b"GET"))

    def handle_reply(self, message: Message) -> None:
        """Write one message of the application."""
        if message["type"] == "websocket.http.response.start":
            if self.state != self.STATE_CONNECTING or self._denial is not None:
                raise RuntimeError("The application refused a WebSocket that it had already answered.")
            self._denial = message
            self.sendData(_denial_head(message["status"], message.get("headers", ()), self.server.date))
        elif message["type"] == "websocket.http.response.body":
            if self._denial is None:
                raise RuntimeError("The application sent a refusal's body before its start.")
            self.sendData(message.get("body", b""))
            if not message.get("more_body", False):
                del self.handshake_deferred
                self.dropConnection(abort=False)
        else:
            super().handle_reply(message)


def _denial_head(status: int, headers: reception.Headers, date: reception.Date) -> bytes:
    lines = [reception.status_line(status), date.line()]
    for name, value in headers:
        reception.check_header(name, value)
        # The answer ends with its connection.
        if name.lower() not in (b"connection", b"transfer-encoding"):
            lines.append(name + b": " + value + b"\r\n")
    return b"".join([*lines, b"connection: close\r\n\r\n"])


class Inbox(asyncio.Queue[Message]):
    """What a WebSocket's client sent; taking from it lets the client send again."""

    def __init__(self, socket: Socket) -> None:
        super().__init__()
        self._socket = socket

    async def get(self) -> Message:
        """Wait for the next message."""
        message = await super().get()
        if self.qsize() <= QUEUED_MESSAGES and self._socket.transport is not None:
            self._socket.transport.resumeProducing()
        return message


class SocketFactory(WebSocketFactory):
    """Builds our WebSocket protocol."""

    protocol = Socket
