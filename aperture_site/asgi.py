"""The ASGI application: API paths go to the gateway, everything else to Django.

Channels divides by protocol. HTTP is divided here by the first characters of the path: two prefixes need no patterns,
and Channels' URLRouter would copy the scope of each request.
"""

import os
from typing import Any

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

from gateway.body import Receive, Scope, Send

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")

django_application: Any = get_asgi_application()

from aperture_site import leaks, live, small_bodies  # noqa: E402
from billing.payments.views import WEBHOOK_BYTES_MAX, WEBHOOK_PATH  # noqa: E402
from gateway import asgi as gateway  # noqa: E402
from gateway.draining import draining  # noqa: E402
from gateway.leaks import BYTES_MAX as LEAKS  # noqa: E402

lifecycle = gateway.lifecycle

__all__ = ["application", "lifecycle"]

BELOW = ("/v1/", "/api/v1/", "/v1beta/", "/demo/")
EXACTLY = {"/v1", "/api/v1", "/v1beta", "/health", "/targets", "/auth/me", "/api/hello"}


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request. HEAD / is the gateway's, for clients probe with it; every other request of / is Django's."""
    path = scope["path"]
    if path.startswith(BELOW) or path in EXACTLY or (path == "/" and scope["method"] == "HEAD"):
        await gateway.application(scope, receive, send)
    elif draining.active:
        await gateway.refuse_page(scope, gateway.named(send))
    elif path in LEAKS:
        await leaks.serve(django_application, scope, receive, gateway.named(send))
    elif path == WEBHOOK_PATH:
        await webhook(scope, receive, gateway.named(send))
    else:
        await django_application(scope, receive, gateway.named(send))


async def webhook(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer Stripe: anybody can call this address, so its body is bounded before any of it is kept."""
    try:
        message = await small_bodies.read(scope, receive, WEBHOOK_BYTES_MAX)
    except small_bodies.TooLarge:
        await small_bodies.refuse(send, WEBHOOK_BYTES_MAX)
    else:
        await django_application(scope, small_bodies.replay(message, receive), send)


application = ProtocolTypeRouter({"http": http, "websocket": live.routed(gateway.open_socket)})
