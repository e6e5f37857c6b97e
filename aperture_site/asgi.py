"""The ASGI application: API paths go to the gateway, everything else to Django."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")

django_application = get_asgi_application()

from gateway.asgi import application as gateway_application  # noqa: E402
from gateway.asgi import lifecycle, refuse_socket  # noqa: E402

__all__ = ["application", "lifecycle"]

# HEAD / is the gateway's, every other request of / is Django's.
# (Django matches a pattern that ends with `$` as a whole, so this one does not.)
API = r"^(?:(?:v1|api/v1|v1beta|demo)(?:/|$)|(?:health|targets|auth/me)$)"


async def root(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """Divide the root between those who probe and those who look."""
    chosen = gateway_application if scope["method"] == "HEAD" else django_application
    await chosen(scope, receive, send)


# Channels' URLRouter copies the scope and matches a pattern for each request: too much for the busiest paths.
BUSY = ("/v1/", "/api/v1/")
pages = URLRouter([re_path(API, gateway_application), re_path(r"^$", root), re_path(r"", django_application)])  # type: ignore[arg-type]


async def http(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """Hand the API's inference paths to the gateway, and the rest to the router."""
    chosen = gateway_application if scope["path"].startswith(BUSY) else pages
    await chosen(scope, receive, send)


application = ProtocolTypeRouter({"http": http, "websocket": refuse_socket})
