"""Turn DATABASE_URL and REDIS_URL into what Django, Celery and the embedded engines need. Pure."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from aperture_site import env, secret_files

DATABASE_NAME = "aperture"
# A Unix socket's path holds at most 107 bytes; PostgreSQL adds "/.s.PGSQL.5432".
SOCKET_PATH_BYTES_MAX = 85
DATABASE_FORM = "write postgresql://user:password@host:5432/name"
REDIS_FORM = "write redis://:password@host:6379/0, rediss://... or unix:///path/of.sock"


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
    return f"unix://:{quote(password, safe='')}@{quote(str(socket_dir(data_dir)))}/valkey.sock"


def django_database(url: str) -> dict[str, Any]:
    """Return Django's DATABASES entry for a PostgreSQL URL; raise SettingError for any other."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
    except ValueError:
        raise _not_usable("DATABASE_URL", url, DATABASE_FORM) from None
    name = unquote(parts.path.lstrip("/"))
    if parts.scheme not in ("postgres", "postgresql") or not name:
        raise _not_usable("DATABASE_URL", url, DATABASE_FORM)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port or ""),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def celery_broker(url: str) -> str:
    """Return Celery's broker URL for a Redis URL, which spells Unix sockets `redis+socket`; refuse any other scheme."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _not_usable("REDIS_URL", url, REDIS_FORM)
    if parts.scheme != "unix":
        return url
    credentials, at, _ = parts.netloc.rpartition("@")
    database = dict(parse_qsl(parts.query)).get("db")
    return f"redis+socket://{credentials}{at}{parts.path}" + (f"?virtual_host={database}" if database else "")


def local_url(host: str, port: int, *, secure: bool = False) -> str:
    """Return the address to print for a server on this machine; a wildcard address is reached as localhost."""
    wildcard = host in ("", "0.0.0.0", "::")  # noqa: S104
    shown = "localhost" if wildcard else f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{shown}:{port}"


def loopback_url(host: str, port: int, *, secure: bool = False) -> str:
    """Return the address under which a server on HOST is reached from its own machine, without a look-up of names."""
    own = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{'https' if secure else 'http'}://{f'[{own}]' if ':' in own else own}:{port}"


def _not_usable(name: str, url: str, form: str) -> env.SettingError:
    # The scheme alone: the rest may hold a password.
    return env.SettingError(name, f"{url.partition('://')[0][:16]}://..." if "://" in url else "...", form)
