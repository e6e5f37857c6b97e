"""Turn DATABASE_URL and REDIS_URL into what Django, Celery and the embedded engines need. Pure."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from aperture_site import env, secret_files

DATABASE_NAME = "aperture"
# A Unix socket's path holds at most 107 bytes; PostgreSQL adds "/.s.PGSQL.5432".
SOCKET_PATH_BYTES_MAX = 85


def socket_dir(data_dir: Path) -> Path:
    """Return the folder of the engines' Unix sockets: in the data folder, or in a short one where that is too deep."""
    folder = data_dir / "sockets"
    if len(str(folder).encode()) <= SOCKET_PATH_BYTES_MAX:
        return folder
    digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    # Not the caller's TMPDIR: every command must find the same folder. The engines refuse one that is another user's.
    return Path("/tmp") / f"aperture-{digest}"  # noqa: S108


def embedded_database(data_dir: Path) -> str:
    """Return the URL of the PostgreSQL that `engines` runs: role and database `aperture`, over a Unix socket."""
    password = secret_files.value("APERTURE_DATABASE_PASSWORD", data_dir)
    host = quote(str(socket_dir(data_dir)), safe="")
    return f"postgresql://{DATABASE_NAME}:{quote(password, safe='')}@/{DATABASE_NAME}?host={host}"


def embedded_redis(data_dir: Path) -> str:
    """Return the URL of the Valkey that `engines` runs, over a Unix socket."""
    password = secret_files.value("APERTURE_REDIS_PASSWORD", data_dir)
    return f"unix://:{quote(password, safe='')}@{socket_dir(data_dir)}/valkey.sock"


def django_database(url: str) -> dict[str, Any]:
    """Return Django's DATABASES entry for a PostgreSQL URL; raise SettingError for any other."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise env.SettingError(
            "DATABASE_URL", f"{parts.scheme}://...", "write postgresql://user:password@host:5432/name"
        )
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or ""),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def celery_broker(url: str) -> str:
    """Return Celery's broker URL for a Redis URL; it spells Unix sockets `redis+socket`."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    password = f":{parts.password}@" if parts.password else ""
    return f"redis+socket://{password}{parts.path}"


def local_url(host: str, port: int) -> str:
    """Return the address to print for a server on this machine; a wildcard address is reached as localhost."""
    wildcard = host in ("", "0.0.0.0", "::")  # noqa: S104
    shown = "localhost" if wildcard else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
