"""Between an agent and the gateway: passes every byte on, and tells what the agent sent over WebSockets."""

import contextlib
import json
import socket
import threading
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

REFUSED = (
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
)
HEAD_END = b"\r\n\r\n"
PIECE_BYTES = 65_536


class Wiretap:
    """A TCP proxy on a port of its own; with `refuses`, WebSockets get 426, as from a gateway that has none."""

    def __init__(self, target: int, *, refuses: bool = False) -> None:
        self.target = target
        self.refuses = refuses
        self.refused = 0
        self.asked: list[bytearray] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listening.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = client.recv(PIECE_BYTES)
            if self.refuses and b"upgrade: websocket" in head.lower():
                self.refused += 1
                client.sendall(REFUSED)
                return
            record = bytearray()
            self.asked.append(record)
            with socket.create_connection(("127.0.0.1", self.target)) as gateway:
                answers = threading.Thread(target=self._pass, args=(gateway, client), daemon=True)
                answers.start()
                while head:
                    record += head
                    gateway.sendall(head)
                    head = client.recv(PIECE_BYTES)
                gateway.shutdown(socket.SHUT_WR)
                answers.join()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def posts(self) -> int:
        """Return how many requests for a response came over HTTP."""
        return sum(bytes(record).count(b"POST /v1/responses ") for record in self.asked)

    def frames(self) -> list[Any]:
        """Return the JSON of all text frames of all WebSockets, in the order of each."""
        sockets = [bytes(record) for record in self.asked if b"upgrade: websocket" in record.lower()]
        return [json.loads(text) for record in sockets for text in texts(record)]


def texts(sent: bytes) -> list[bytes]:
    """Return the texts that a WebSocket's client sent, without compression."""
    protocol = ServerProtocol(max_size=None)
    head, _, rest = sent.partition(HEAD_END)
    protocol.receive_data(head + HEAD_END)
    [request] = protocol.events_received()
    protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
    protocol.receive_data(rest)
    found: list[bytes] = []
    for event in protocol.events_received():
        if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
            found.append(bytes(event.data))
        elif isinstance(event, Frame) and event.opcode is Opcode.CONT:
            found[-1] += bytes(event.data)
    return found
