"""Short-lived keys for browsers."""

import msgspec


class ClientSecret(msgspec.Struct, frozen=True):
    """What a client secret says: the digest of the key that made it, until when it opens sockets, and for what.

    `session` is the configuration's JSON object as bytes, `model` its model or an empty text.
    """

    digest: bytes
    expires_at: int
    session: bytes
    model: str
