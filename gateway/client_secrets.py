"""Client secrets: short-lived keys (`ek_`) that a server makes for its pages, and that open realtime sockets only.

`POST /realtime/client_secrets` as OpenAI has it (https://platform.openai.com/docs/api-reference/realtime-sessions).
A secret is its own record: what it says is encrypted into it (accounts.cipher), so nothing of it is kept here. It
says which key made it, by that key's digest, and is good for as long as that key is: one that is revoked, reset or
expired takes its secrets along. It may open any number of sockets until it expires; a socket may outlast it.
"""

import secrets
import time
import zlib
from typing import Annotated, Literal, TypeVar

import msgspec

from accounts import cipher
from gateway import pipeline, routes
from gateway.answers import answer
from gateway.authentication import key_of
from gateway.errors import Fault
from gateway.exchange import Exchange
from gateway.runtime import Runtime
from gateway.wire import fields as wire
from gateway.wire.fields import InvalidRequest

PREFIX = "ek_"
PURPOSE = "client secret"
LIFETIME_S = 600
# With it the secret, which is a header of the handshake, stays well below the bound of a head.
SESSION_BYTES_MAX = 16 * 1024
SECRET_CHARS_MAX = 24 * 1024
NULL = msgspec.Raw(b"null")

Kind = TypeVar("Kind")


class ClientSecret(msgspec.Struct, frozen=True, array_like=True):
    """What a client secret says: the digest of the key that made it, until when it opens sockets, and for what.

    `session` is the configuration's JSON object as bytes, `model` its model or an empty text.
    """

    digest: bytes
    expires_at: int
    session: bytes
    model: str


class ExpiresAfter(msgspec.Struct):
    """When a secret expires: this long after it was made."""

    seconds: Annotated[int, msgspec.Meta(ge=10, le=7200)] = LIFETIME_S
    anchor: Literal["created_at"] = "created_at"


class Transcription(msgspec.Struct):
    """Which model transcribes."""

    model: str | None = None


class AudioInput(msgspec.Struct):
    """What is done with the caller's audio."""

    transcription: Transcription | None = None


class Audio(msgspec.Struct):
    """A session's audio, as far as it names a model."""

    input: AudioInput | None = None


class Session(msgspec.Struct):
    """What is looked at of a session's configuration; the rest is the upstream's."""

    type: Literal["realtime", "transcription"] = "realtime"
    model: Annotated[str, msgspec.Meta(max_length=wire.MODEL_CHARS_MAX)] | None = None
    audio: Audio | None = None

    def needed(self) -> str:
        """Return the model that a socket will be opened for, or an empty text."""
        if self.type == "transcription":
            asked = self.audio and self.audio.input and self.audio.input.transcription
            return (asked and asked.model) or ""
        return self.model or ""


async def create(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """POST /realtime/client_secrets: make one."""
    await pipeline.admit(runtime, exchange)
    body = await pipeline.receive(exchange)
    lifetime_s, session, model = wanted(body)
    if model:
        # What may not be called opens nothing: better told to the server that asks than to its page.
        routes.plan(exchange.snapshot, exchange.access, model)
    key = key_of(exchange.headers, exchange.scope.get("query_string", b""))
    digest = await runtime.callers.digest_of(key)
    if digest is None:
        raise Fault("invalid_api_key", "The API key was revoked while it was used.")
    expires_at = int(time.time()) + lifetime_s
    value = seal(ClientSecret(digest, expires_at, msgspec.json.encode(session), model))
    shown = {"object": "realtime.session", "id": "sess_" + secrets.token_hex(12), "type": "realtime", **session}
    await answer(exchange, 200, {"value": value, "expires_at": expires_at, "session": shown})


def wanted(body: bytes) -> tuple[int, wire.Fields, str]:
    """Return what a request asks for: the lifetime in seconds, the session's fields, and its model or an empty text.

    Raises Fault 400, or 413 for a configuration that is too long to travel in a header.
    """
    try:
        fields = wire.read(body or b"{}")
    except InvalidRequest as error:
        raise Fault(error.code, str(error), param=error.param) from None
    raw = fields.get("session", NULL)
    if len(bytes(raw)) > SESSION_BYTES_MAX:
        raise Fault(
            "request_too_large",
            f"session is longer than {SESSION_BYTES_MAX} bytes, the most that a client secret carries; "
            "send the rest in the page's session.update.",
            param="session",
        )
    expires = parsed("expires_after", fields.get("expires_after", NULL), ExpiresAfter) or ExpiresAfter()
    session = parsed("session", raw, Session) or Session()
    given = parsed("session", raw, wire.Fields) or {}
    return expires.seconds, given, session.needed()


def parsed(name: str, raw: msgspec.Raw, kind: type[Kind]) -> Kind | None:
    """Return a field as KIND, None where it is absent or null; raise Fault 400 that names what is wrong."""
    try:
        return msgspec.json.decode(raw, type=kind | None)
    except msgspec.ValidationError as error:
        raise Fault("invalid_parameter", f"{name}: {error}.", param=name) from None
    except (ValueError, RecursionError):
        raise Fault("invalid_json", f"{name} is not valid JSON.", param=name) from None


def seal(secret: ClientSecret) -> str:
    """Return a secret's text: characters that a WebSocket's subprotocol may have (RFC 9110, section 5.6.2)."""
    packed = zlib.compress(msgspec.msgpack.encode(secret), 9)
    return PREFIX + cipher.seal_bytes(packed, PURPOSE).decode("ascii").rstrip("=")


def unseal(value: str, now: float) -> ClientSecret | None:
    """Return what a secret says, or None where it is not ours; raise Fault 401 where it has expired before NOW."""
    token = value.removeprefix(PREFIX)
    if not token.isascii() or len(token) > SECRET_CHARS_MAX:
        return None
    try:
        packed = cipher.unseal_bytes((token + "=" * (-len(token) % 4)).encode(), PURPOSE)
    except cipher.UnreadableSecret:
        return None
    secret = msgspec.msgpack.decode(zlib.decompress(packed), type=ClientSecret)
    if secret.expires_at <= now:
        raise Fault("api_key_expired", "The client secret has expired; make another.")
    return secret
