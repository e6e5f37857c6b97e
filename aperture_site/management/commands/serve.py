"""Serve: engines, migrations, web processes, worker and beat, in one command.

Invariants: nothing is started before the address is bound and the data folder is known to be free; the listening
socket is bound once and inherited, so a restarted web process loses no connection that waits in it.
"""

import errno
import fcntl
import logging
import os
import signal
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db.utils import OperationalError

from aperture_site import addresses, certificate, engines
from aperture_site.supervisor import Program, Supervisor

logger = logging.getLogger("aperture.serve")

BACKLOG = 2048
# Any number, as long as every starter on one database asks for the same.
MIGRATION_LOCK = 20_260_101
# Beyond the drain itself: the time to answer what is left and to exit.
EXIT_S = 5.0
WORKER_STOP_S = 10.0
# The web process has the processors to itself while it starts.
BACKGROUND_AFTER_S = 1.5


class Command(BaseCommand):
    """`manage.py serve`."""

    help = "Run Aperture: PostgreSQL and Valkey (unless addresses are set), migrations, web, worker and beat."
    # `scripts/check` and `manage.py check` run them; here they would cost every start a third of a second.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; their defaults are the settings."""
        parser.add_argument("--host", default=settings.HOST, help="address to listen on (APERTURE_HOST)")
        parser.add_argument("--port", type=int, default=settings.PORT, help="0: any free one (APERTURE_PORT)")
        parser.add_argument("--server", choices=["daphne", "uvicorn"], default="daphne")
        parser.add_argument("--workers", type=int, default=1, help="number of web processes")
        parser.add_argument("--tls-cert", default=settings.TLS_CERT, metavar="FILE", help="PEM, with its chain")
        parser.add_argument("--tls-key", default=settings.TLS_KEY, metavar="FILE", help="PEM; https and wss, no http")

    def handle(self, **options: Any) -> None:
        """Serve until SIGINT or SIGTERM."""
        if options["workers"] < 1:
            raise CommandError("--workers must be 1 or more.")
        if options["tls_cert"] or options["tls_key"]:
            try:
                certificate.context(options["tls_cert"], options["tls_key"])
            except certificate.Unusable as error:
                raise CommandError(str(error)) from None
        run_dir = settings.DATA_DIR / "run"
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # From here on, SIGTERM unwinds the stack as SIGINT does, so that everything started is stopped.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with claimed(run_dir), bound(options["host"], options["port"]) as listener:
                self.serve(listener, run_dir, options)
        except KeyboardInterrupt:
            logger.info("stopped before everything was up")
        except OperationalError as error:
            raise CommandError(f"PostgreSQL (DATABASE_URL) cannot be used: {str(error).strip()}") from None

    def serve(self, listener: socket.socket, run_dir: Path, options: dict[str, Any]) -> None:
        """Bring everything up on the listening socket, and supervise it."""
        host, port = options["host"], int(listener.getsockname()[1])
        secure = bool(options["tls_cert"])
        configured = addresses.local_url(settings.HOST, settings.PORT, secure=bool(settings.TLS_CERT))
        derived = configured == settings.PUBLIC_URL
        address = addresses.local_url(host, port, secure=secure) if derived else settings.PUBLIC_URL
        environment = os.environ | {"APERTURE_HOST": host, "APERTURE_PORT": str(port)}
        if secure:
            # The web processes may run in another folder.
            environment["APERTURE_TLS_CERT"] = str(Path(options["tls_cert"]).absolute())
            environment["APERTURE_TLS_KEY"] = str(Path(options["tls_key"]).absolute())
        own_engines = engines.configured()
        programs = [
            *web(options["server"], options["workers"], listener.fileno(), environment),
            *background(environment),
        ]
        supervisor = Supervisor(programs, settings.BASE_DIR, run_dir, lambda: report(own_engines.revive()))
        try:
            supervisor.preload()
            # After the web processes began to load, so that both do at once.
            django.setup()
            with own_engines.running():
                prepare_database(self.stdout, address, addresses.loopback_url(host, port, secure=secure))
                url = addresses.local_url(host, port, secure=secure)
                self.stdout.write(f"Aperture is serving on {url} (Ctrl-C stops it)")
                self.stdout.flush()
                supervisor.run()
        finally:
            supervisor.kill()


def web(server: str, workers: int, descriptor: int, environment: dict[str, str]) -> list[Program]:
    """Return the web processes: `web`, then `web-2` and so on, all accepting from one socket."""
    command = [
        *(sys.executable, "-m", "aperture_site.gate", "aperture_site.web", "--server", server),
        *("--fd", str(descriptor)),
    ]
    names = ["web", *(f"web-{number}" for number in range(2, workers + 1))]
    stop_s = settings.DRAIN_S + EXIT_S
    return [Program(name, command, 1, stop_s, environment, (descriptor,), gated=True) for name in names]


def background(environment: dict[str, str]) -> list[Program]:
    """Return the Celery worker, which has a process for each job at a time, and beat."""
    celery = [sys.executable, "-m", "celery", "--quiet", "--app", "aperture_site.celery"]
    level = ["--loglevel", settings.LOG_LEVEL]
    worker = ["worker", "--without-gossip", "--without-mingle", *level]
    beat = ["beat", "--pidfile", "", *level]
    return [
        Program("worker", [*celery, *worker], 2, WORKER_STOP_S, environment, start_after_s=BACKGROUND_AFTER_S),
        Program("beat", [*celery, *beat], 2, WORKER_STOP_S, environment, start_after_s=BACKGROUND_AFTER_S),
    ]


def report(died: list[str]) -> None:
    """Log the engines that were found dead."""
    for name in died:
        logger.error("%s died; starting it again", engines.TITLES[name])


def prepare_database(stdout: Any, address: str, loopback: str) -> None:
    """Apply the migrations that are missing and make a fresh installation's first rows, one starter at a time."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    from aperture_site import first_start
    from billing import partitions

    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
            executor = MigrationExecutor(connection)
            if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                call_command("migrate", interactive=False, verbosity=1, stdout=sys.stderr)
            partitions.ensure_now()
            first_start.run(stdout, address, loopback)
    finally:
        # The lock goes with the connection, and a supervisor needs none.
        connection.close()


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Hold the data folder for one `serve`; raise CommandError where another has it."""
    with (run_dir / "serve.lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CommandError(
                f"Aperture already serves from {settings.DATA_DIR} (process {file.read().strip()}); "
                "stop that one, or set APERTURE_DATA_DIR to another folder."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def bound(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; raise CommandError, in one sentence, where the address cannot be had."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found[4][:2], family=found[0], backlog=BACKLOG)
    except OSError as error:
        reason = (
            "is already in use"
            if error.errno == errno.EADDRINUSE
            else f"cannot be listened on ({error.strerror or error})"
        )
        raise CommandError(
            f"{addresses.local_url(host, port)} {reason}; choose another address with --host and --port, "
            "or with APERTURE_HOST and APERTURE_PORT."
        ) from None
