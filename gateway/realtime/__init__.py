"""Realtime sessions: a caller's WebSocket relayed to an upstream's, each response held for, metered and settled.

`events` reads and writes frames, `usage` and `meter` count, all pure; `slices` holds and settles; `session` is the I/O.
https://platform.openai.com/docs/guides/realtime-websocket
"""

from gateway.realtime.session import serve

__all__ = ["serve"]
