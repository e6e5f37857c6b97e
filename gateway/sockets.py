"""WebSockets of the API: who may open one, what it may use, and how it ends.

A handler gets an `Opening`, a handshake that is not answered yet, and makes a `Socket` of it. Both hide the server.

Invariants: a refusal comes before the upgrade, as HTTP in the envelope; the client's key is in nothing that a handler
sees; `send` waits for a client that does not read, `receive` takes no more than is wanted; a socket ends when its key
does, when its bounds are reached and when the server stops, whether or not its handler listens.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from gateway.client_secrets import ClientSecret
from gateway.exchange import Exchange
from gateway.runtime import Runtime
from gateway.snapshot import Caller


class Opening:
    """A handshake that is not answered yet: a Fault raised before `accept` becomes an HTTP refusal in the envelope.

    `query` has the query's parameters (the first of each name) without `key`; with a client secret that is bound to a
    model its `model` is that one. `subprotocols` are the offered ones, without the item that holds a key. `secret` is
    the client secret (`ek_`) that the socket is opened with, or None: `secret.session` is the session's configuration
    as the JSON object that its maker sent (bytes), which the handler has to apply before the client's first frame.
    """

    query: Mapping[str, str]
    subprotocols: tuple[str, ...]
    secret: ClientSecret | None

    async def accept(self) -> "Socket":
        """Answer 101, with `realtime` where that was offered; raise ClientGone where the client has gone."""
        raise NotImplementedError


class Socket:
    """An accepted WebSocket; text frames are str, binary ones bytes.

    `caller` is kept as it was last looked up. A handler sets `busy` while it works on an answer: a server that stops
    lets that finish, within its time, and closes all others at once. `close_code` is what the socket was closed with,
    by either side: None while it is open, 1006 where the connection was lost.
    """

    caller: Caller
    busy: bool
    close_code: int | None

    async def receive(self) -> str | bytes | None:
        """Return the next frame; None once the client has closed or is lost, or the bounds ended it."""
        raise NotImplementedError

    async def send(self, frame: str | bytes) -> None:
        """Send one frame; wait while the client does not read; raise ClientGone once it is lost or closed."""
        raise NotImplementedError

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; REASON is cut to the 123 bytes that a close frame has room for. Nothing happens where it is closed."""
        raise NotImplementedError

    async def ended(self) -> None:
        """Wait until the socket is closed, by whomever; for handlers that are busy elsewhere."""
        raise NotImplementedError


# The exchange is admitted already: caller, access, snapshot.
Handler = Callable[[Runtime, Exchange, Opening], Awaitable[None]]
