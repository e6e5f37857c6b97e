"""In front of Django, for the addresses that finders of leaked keys call: what proves nothing is refused unread.

Anybody can reach them. So the headers are looked at first, an address that has sent too many wrong proofs is told to
wait, and a body is bounded; only then does Django receive it.
"""

from typing import Any

from accounts.client_address import Address
from aperture_site import small_bodies
from gateway import leaks
from gateway.authentication import address_of
from gateway.body import Message, Receive, Scope, Send
from gateway.errors import Fault
from gateway.runtime import Runtime, lifecycle

# What a wrong proof is answered with. TruffleHog's 403 is the answer about a key, to somebody who has the token.
WRONG_PROOF = {leaks.GITHUB_PATH: 403, leaks.TRUFFLEHOG_PATH: 401}


async def serve(application: Any, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request of one of `leaks.BYTES_MAX`, with APPLICATION once nothing speaks against it."""
    path, runtime = scope["path"], lifecycle.current()
    address = address_of(scope, runtime.trusted_proxies)
    try:
        runtime.failed_keys.check(address)
    except Fault as fault:
        wait = [(b"retry-after", b"%d" % (fault.retry_after_s or 1))]
        await small_bodies.say(send, 429, "Too many requests from your address were refused.", wait)
        return
    refusal = leaks.refusal_of(path, dict(scope["headers"])) if scope["method"] == "POST" else None
    if refusal is not None:
        if refusal[0] == WRONG_PROOF[path]:
            runtime.failed_keys.failed(address)
        await small_bodies.say(send, *refusal)
        return
    try:
        message = await small_bodies.read(scope, receive, leaks.BYTES_MAX[path])
    except small_bodies.TooLarge:
        await small_bodies.refuse(send, leaks.BYTES_MAX[path])
        return
    counted = counting(send, runtime, address, WRONG_PROOF[path])
    await application(scope, small_bodies.replay(message, receive), counted)


def counting(send: Send, runtime: Runtime, address: Address | None, wrong: int) -> Send:
    """Return a `send` that counts the answer against ADDRESS where its status is WRONG."""

    async def count(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == wrong:
            runtime.failed_keys.failed(address)
        await send(message)

    return count
