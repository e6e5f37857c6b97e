"""One web process: an ASGI application on a listening socket that the supervisor bound and every worker shares.

    python -m aperture_site.web --server daphne|uvicorn --fd N [--app module:attribute] [--drain-seconds S]

Invariants: no access log (keys and query strings must reach no log); the listener stays open while the process drains,
so that a new request is answered with 503 rather than refused; after SIGTERM or SIGINT the process exits with 0 once
nothing runs any more, at the latest after the drain time. A second signal ends it at once.
"""

import argparse
import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import uvloop

from aperture_site import certificate
from aperture_site.reception import Bounds, ClientDisconnectedError, refusal
from gateway.draining import draining

# For connections whose last bytes are still on their way when nothing runs any more.
FLUSH_S = 1.0


class WebServer(Protocol):
    """What the two servers have in common."""

    async def start(self, listening: socket.socket) -> None:
        """Accept connections."""

    async def stop(self, timeout_s: float) -> None:
        """Close the listener and every connection."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m aperture_site.web", description="Run one web process.")
    parser.add_argument("--server", choices=["daphne", "uvicorn"], default="daphne")
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of a socket that listens already")
    parser.add_argument("--app", default="aperture_site.asgi:application", help="module:attribute of the application")
    parser.add_argument("--drain-seconds", type=float, default=None, help="default: APERTURE_DRAIN_SECONDS")
    options = parser.parse_args(arguments)

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")
    from django.conf import settings
    from django.utils.log import configure_logging

    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    if options.server == "daphne":
        _install_reactor(loop)
    application, lifecycle = _load(options.app)
    drain_s = settings.DRAIN_S if options.drain_seconds is None else options.drain_seconds
    with socket.socket(fileno=options.fd) as listening:
        listening.setblocking(False)
        loop.run_until_complete(_serve(options.server, listening, application, lifecycle, drain_s))
    return 0


def counted(application: Any) -> Any:
    """Return APPLICATION, with what runs inside it counted for the drain."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        draining.entered()
        try:
            await application(scope, receive, send)
        except ClientDisconnectedError:
            # The client left; that is no fault worth a line in the log.
            return
        finally:
            draining.left()

    return run


async def _serve(server_name: str, listening: socket.socket, application: Any, lifecycle: Any, drain_s: float) -> None:
    stopping = asyncio.Event()
    _on_signals(stopping)
    server = _server(server_name, counted(application))
    if lifecycle is not None:
        await lifecycle.start()
    await server.start(listening)
    _settle_memory()
    await stopping.wait()
    await draining.idle(drain_s)
    await server.stop(FLUSH_S)
    if lifecycle is not None:
        await lifecycle.stop()


def _settle_memory() -> None:
    """Take what start-up made out of the garbage collector's sight, and let it look less often.

    Requests make few cycles: the default thresholds spend an eighth of the time looking for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 25, 50)


def _on_signals(stopping: asyncio.Event) -> None:
    def stop(number: int) -> None:
        if draining.active:
            os._exit(128 + number)
        draining.start()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)


def _server(name: str, application: Any) -> WebServer:
    from django.conf import settings

    bounds = Bounds(
        body_bytes=settings.MAX_BODY_BYTES,
        header_bytes=settings.MAX_HEADER_BYTES,
        receive_timeout_s=settings.RECEIVE_TIMEOUT_S,
        write_timeout_s=settings.WRITE_TIMEOUT_S,
        region=settings.REGION,
        render=refusal,
        frame_bytes=settings.SOCKET_FRAME_BYTES,
        ping_interval_s=settings.SOCKET_PING_S,
    )
    tls = certificate.context(settings.TLS_CERT, settings.TLS_KEY) if settings.TLS_CERT else None
    if name == "daphne":
        from aperture_site import daphne

        return daphne.Server(application, bounds, tls)
    from aperture_site import uvicorn

    return uvicorn.Server(application, bounds, tls)


def _install_reactor(loop: asyncio.AbstractEventLoop) -> None:
    """Put Twisted on our loop; Daphne takes the reactor that it finds, and must find this one."""
    from twisted.internet import asyncioreactor

    asyncioreactor.install(loop)


def _load(name: str) -> tuple[Any, Any]:
    """Return the application called `module:attribute`, and its module's `lifecycle` (start, stop) or None."""
    module_name, _, attribute = name.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, attribute), getattr(module, "lifecycle", None)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # Everything is closed; taking the interpreter apart would take longer than all of the above.
    os._exit(status)
