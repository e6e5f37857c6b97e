"""The gateway's tests: a real web process over the suite's own PostgreSQL and Valkey, in front of a scripted upstream.

A module's tests share one process for each server; a module about bytes on the wire asks for both by overriding
`server`. Nothing is rolled back, for another process reads the rows: each module has a database
of its own.
"""

import datetime
import ipaddress
import itertools
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.management import call_command
from psycopg import sql

from tests.gateway import http
from tests.gateway.installation import Installation
from tests.servers import WebProcess, start_web
from tests.upstream.server import ScriptedUpstream

APPLICATION = "aperture_site.asgi:application"
NUMBERS = itertools.count()
# Small bounds, so that what happens at them is seen soon.
BODY_BYTES_MAX = 4 * 1024 * 1024
BOUNDS = {
    "APERTURE_MAX_BODY": str(BODY_BYTES_MAX),
    "APERTURE_RECEIVE_TIMEOUT_SECONDS": "1",
    "APERTURE_CONNECT_TIMEOUT_SECONDS": "1",
    "APERTURE_FIRST_BYTE_TIMEOUT_SECONDS": "8",
    "APERTURE_IDLE_TIMEOUT_SECONDS": "1.5",
    "APERTURE_KEEP_ALIVE_SECONDS": "0.3",
    "APERTURE_SETTLE_TIMEOUT_SECONDS": "1",
    "APERTURE_REGION": "test-1",
    "APERTURE_FAILED_KEYS_PER_MINUTE": "0",
    "APERTURE_LOG_LEVEL": "DEBUG",
}


@dataclass
class Gateway:
    """A running web process, its upstream and its installation."""

    web: WebProcess
    upstream: ScriptedUpstream
    installed: Installation
    server: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.web.port

    def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> http.Answer:
        """Make one request, with Alice's key unless another (or none: "") is given."""
        return http.call(self.port, method, path, key=self.installed.key if key is None else key, **options)

    def chat(self, scenario: str, *, key: str | None = None, provider: str = "chaos", **fields: Any) -> http.Answer:
        """Ask for a chat completion of a scenario."""
        return self.call("POST", "/v1/chat/completions", key=key, body=http.chat(f"{provider}/{scenario}", **fields))

    def stream(self, scenario: str, **fields: Any) -> http.Answer:
        """Ask for a stream of a scenario, and read it to its end."""
        return self.chat(scenario, stream=True, **fields)

    def follow(self, *others: WebProcess) -> None:
        """Wait until the process, and OTHERS on its database, have the catalog of now in memory."""
        wanted = self.installed.query("SELECT catalog FROM accounts_version")[0]["catalog"]
        for web in (self.web, *others):
            self.upstream.wait(lambda port=web.port: catalog_version(port) >= wanted)  # type: ignore[misc]

    def open_files(self) -> int:
        """How many files and sockets the process has open."""
        return psutil.Process(self.web.pid).num_fds()


def catalog_version(port: int) -> int:
    """Return which version of the catalog the process on PORT has in memory."""
    return int(http.call(port, "GET", "/health?verbose=1").json["catalog"]["version"])


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    """The scripted upstream, shared by all."""
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="session")
def untrusted_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedUpstream]:
    """The scripted upstream behind TLS, with a certificate that nobody signed."""
    with ScriptedUpstream(tls=self_signed(tmp_path_factory.mktemp("tls"))) as running:
        yield running


@pytest.fixture(scope="session")
def blackhole() -> Iterator[int]:
    """A port whose queue of connections is full: the system drops what else arrives, as a firewall would."""
    with socket.socket() as listening, ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate of its own making, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def closed_port() -> int:
    """Return a loopback port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def database(name: str, blocker: Any, template: str = "template0") -> Iterator[str]:
    """A database of its own, copied from TEMPLATE, that Django talks to inside the block; the value is its address."""
    from django.db import connection

    usual = connection.settings_dict["NAME"]
    with psycopg.connect(address_of(usual), autocommit=True) as raw:
        raw.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        with blocker.unblock():
            yield address_of(name)
    finally:
        connection.close()
        connection.settings_dict["NAME"] = usual


def address_of(name: str) -> str:
    """Return the address of a database of the suite's PostgreSQL, for another process."""
    from django.conf import settings

    database = settings.DATABASES["default"]
    host, port = quote(str(database["HOST"]), safe=""), f"&port={database['PORT']}" if database["PORT"] else ""
    return f"postgresql://{database['USER']}:{quote(database['PASSWORD'], safe='')}@/{name}?host={host}{port}"


def drop(name: str) -> None:
    """Remove a database, whoever is still connected to it."""
    from django.conf import settings

    with psycopg.connect(address_of(settings.DATABASES["default"]["NAME"]), autocommit=True) as raw:
        raw.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def migrated(engines: Path, django_db_blocker: Any) -> Iterator[str]:
    """The name of a migrated database to copy; the suite's usual one is rolled back under other processes."""
    name = f"gateway_template_{os.getpid()}_{next(NUMBERS)}"
    with database(name, django_db_blocker):
        call_command("migrate", verbosity=0)
    yield name
    drop(name)


@pytest.fixture(scope="module")
def installation(
    migrated: str,
    upstream: ScriptedUpstream,
    untrusted_upstream: ScriptedUpstream,
    blackhole: int,
    django_db_blocker: Any,
) -> Iterator[Installation]:
    """The rows of `install`, in a database of the module's own, to which Django is connected."""
    from django.conf import settings

    from tests.gateway.rows import install

    name = f"gateway_{os.getpid()}_{next(NUMBERS)}"
    with database(name, django_db_blocker, migrated) as address:
        yield install(
            {
                "chaos": upstream.base_url,
                "refused": f"http://127.0.0.1:{closed_port()}",
                "blackhole": f"http://127.0.0.1:{blackhole}",
                "nowhere": "http://upstream.invalid",
                "untrusted": untrusted_upstream.base_url,
                "handshake": f"https://127.0.0.1:{upstream.port}",
            },
            database_url=address,
            redis_url=settings.REDIS_URL,
        )
    drop(name)


@pytest.fixture(scope="module")
def server() -> str:
    """Which server a module's gateway runs on; modules about bytes override this with both."""
    return "daphne"


@pytest.fixture(scope="module")
def bounds() -> dict[str, str]:
    """The environment of a module's web process."""
    return BOUNDS


@pytest.fixture(scope="module")
def gateway(
    server: str, installation: Installation, upstream: ScriptedUpstream, engines: Path, bounds: dict[str, str]
) -> Iterator[Gateway]:
    """A real web process."""
    with start_web(server, APPLICATION, engines, DATABASE_URL=installation.database_url, **bounds) as web:
        yield Gateway(web, upstream, installation, server)
