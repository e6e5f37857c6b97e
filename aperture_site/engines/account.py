"""The account that the engines run under: the caller's own, or an unprivileged one when the caller is root.

PostgreSQL refuses to run as root. The unprivileged account must still reach its data and the wheels' binaries, whose
parent folders may be closed to it (/root usually is). No parent's mode or owner is ever changed: where one is closed,
the engine keeps a single Linux capability for it, and where none is closed it keeps none.

Run as a program (`python account.py UID GID CAPABILITY COMMAND ...`) this file gives up root and becomes COMMAND; it
imports nothing but the standard library, for it runs without the site's packages.
"""

import ctypes
import os
import pwd
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# linux/capability.h and linux/prctl.h
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAPABILITY_VERSION_3 = 0x20080522
PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 8, 38, 47, 2
NO_CAPABILITY = -1


class UnreachableError(RuntimeError):
    """The unprivileged account cannot reach the engines, and nothing allows it to."""


@dataclass(frozen=True)
class Account:
    """Whom the engines run as; `capability` is the one they keep, or NO_CAPABILITY."""

    uid: int
    gid: int
    capability: int
    dropped: bool

    def command(self, *words: str | Path) -> list[str]:
        """Return the command line that runs WORDS under this account."""
        command = [str(word) for word in words]
        if not self.dropped:
            return command
        return [
            *(sys.executable, "-I", "-S", str(Path(__file__).resolve())),
            *(str(self.uid), str(self.gid), str(self.capability), *command),
        ]

    def own(self, folder: Path) -> None:
        """Make a folder of the engine's own, mode 0700 (its parents must exist); refuse one that is somebody else's."""
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (self.uid, os.geteuid()):
            raise UnreachableError(
                f"{folder} is no folder of this user's (uid {found.st_uid} owns it); start as that user, "
                "or set APERTURE_DATA_DIR to another folder"
            )
        if self.dropped:
            os.chown(folder, self.uid, self.gid)
        folder.chmod(0o700)

    def write(self, path: Path, text: str) -> None:
        """Write a file of the engine's own, mode 0600, whole or not at all."""
        draft = path.with_name(f".{path.name}.draft")
        draft.unlink(missing_ok=True)
        # O_EXCL: root follows no link that the account may have laid in its own folder.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            if self.dropped:
                os.fchown(file.fileno(), self.uid, self.gid)
            file.write(text)
        draft.rename(path)


def for_engines(folders: Iterable[Path], programs: Iterable[Path]) -> Account:
    """Choose the account: its own folders' owner where there are some already, else `nobody`, where the caller is root.

    FOLDERS are the engine's own, PROGRAMS its binaries. Raises UnreachableError where root's powers are so curtailed
    that no account could work.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), NO_CAPABILITY, dropped=False)
    folders, programs = list(folders), list(programs)
    owners = [found for folder in folders if folder.is_dir() and (found := folder.stat()).st_uid != 0]
    nobody = pwd.getpwnam("nobody")
    uid, gid = (owners[0].st_uid, owners[0].st_gid) if owners else (nobody.pw_uid, nobody.pw_gid)
    closed = [parent for path in (*folders, *programs) for parent in path.parents if not _opens(parent, uid, gid)]
    unrunnable = [program for program in programs if not _opens(program, uid, gid)]
    capability = choose_capability(bool(closed), bool(unrunnable), _permitted())
    if capability is None:
        raise UnreachableError(
            f"started as root, the engines run as uid {uid}, which may not enter {(closed or unrunnable)[0]}; "
            "put Aperture and APERTURE_DATA_DIR under folders that everybody may enter, start as an ordinary user, "
            "or set DATABASE_URL and REDIS_URL"
        )
    return Account(uid, gid, capability, dropped=True)


def choose_capability(closed: bool, unrunnable: bool, permitted: int) -> int | None:
    """Return the least capability that opens closed folders and unreadable programs; None where none is permitted."""
    if not closed and not unrunnable:
        return NO_CAPABILITY
    # CAP_DAC_READ_SEARCH enters any folder but runs no program; containers often lack it and have the wider one.
    wanted = [CAP_DAC_OVERRIDE] if unrunnable else [CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE]
    return next((capability for capability in wanted if permitted >> capability & 1), None)


def _opens(path: Path, uid: int, gid: int) -> bool:
    if not path.exists():
        return True
    found = path.stat()
    bits = found.st_mode >> (6 if found.st_uid == uid else 3 if found.st_gid == gid else 0) & 0o7
    return bool(bits & 0o1) and (path.is_dir() or bool(bits & 0o4))


def _permitted() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("CapPrm:"))
    return int(line.split()[1], 16)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _prctl(option: int, first: int = 0, second: int = 0) -> None:
    _call("prctl", option, *(ctypes.c_ulong(value) for value in (first, second, 0, 0)))


def give_up_root(uid: int, gid: int, capability: int) -> None:
    """Become the account for good, keeping at most one capability, which survives exec (capabilities(7), ambient)."""
    keeps = capability != NO_CAPABILITY
    if keeps:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setregid(gid, gid)
    os.setreuid(uid, uid)
    if keeps:
        bit = 1 << capability
        sets = (_Sets * 2)(_Sets(bit, bit, bit), _Sets(0, 0, 0))
        _call("capset", ctypes.byref(_Header(CAPABILITY_VERSION_3, 0)), sets)
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
    if sys.platform == "linux":
        _prctl(PR_SET_NO_NEW_PRIVS, 1)


if __name__ == "__main__":
    give_up_root(*map(int, sys.argv[1:4]))
    os.execv(sys.argv[4], sys.argv[4:])  # noqa: S606
