"""Find keys in the files of a folder and in what git keeps, without reading any file whole.

Only texts with a key's form and checksum are found, so nothing else is ever looked up. Links are not followed: what is
not below the folder is not read.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import msgspec

from accounts import keys
from accounts.leaks.matches import KEY

MARK = b"sg-"
KEY_LENGTH = 39
CHUNK_BYTES = 1024 * 1024
# A file with a NUL here is taken for a binary one, as git does.
HEAD_BYTES = 8000
GIT = ".git"


class Found(msgspec.Struct, frozen=True):
    """A key in clear text, and where it is."""

    token: str
    file: str
    line: int


class Counts(msgspec.Struct):
    """What a scan has read, and what it has left out."""

    files: int = 0
    bytes: int = 0
    binary: int = 0
    too_large: int = 0
    unreadable: list[str] = []


class Bounds(msgspec.Struct, frozen=True):
    """What is read: files up to BYTES_MAX, binary ones too where asked, and what git keeps where asked."""

    bytes_max: int = 100 * 1024 * 1024
    binary: bool = False
    history: bool = False


def walk(root: Path, bounds: Bounds, counts: Counts) -> Iterator[Found]:
    """Yield the keys below ROOT, which is a folder or a file; COUNTS is written as it goes."""
    if not root.is_dir():
        yield from in_file(root, bounds, counts)
        return

    def unreadable(error: OSError) -> None:
        counts.unreadable.append(str(error.filename))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        if GIT in folders:
            folders.remove(GIT)
            if bounds.history:
                yield from in_history(Path(folder), counts)
        folders.sort()
        for name in sorted(files):
            yield from in_file(Path(folder, name), bounds, counts)


def in_file(path: Path, bounds: Bounds, counts: Counts) -> Iterator[Found]:
    """Yield the keys of one file, unless it is binary, too large or no file."""
    try:
        if path.is_symlink() or not path.is_file():
            return
        if path.stat().st_size > bounds.bytes_max:
            counts.too_large += 1
            return
        with path.open("rb", buffering=0) as stream:
            head = stream.read(HEAD_BYTES)
            if b"\x00" in head and not bounds.binary:
                counts.binary += 1
                return
            counts.files += 1
            yield from in_stream(head, stream, str(path), counts)
    except OSError:
        counts.unreadable.append(str(path))


def in_stream(head: bytes, stream: IO[bytes], name: str, counts: Counts) -> Iterator[Found]:
    """Yield the keys of HEAD and what STREAM has after it, with the numbers of their lines."""
    line, kept = 1, b""
    piece = head
    while piece:
        counts.bytes += len(piece)
        data = kept + piece
        # What might be the beginning of a key is looked at again with what comes after it.
        end = max(0, len(data) - KEY_LENGTH + 1)
        if (start := data.find(MARK)) >= 0:
            yield from _in_bytes(data, start, end, name, line)
        line += data.count(b"\n", 0, end)
        kept, piece = data[end:], stream.read(CHUNK_BYTES)


def _in_bytes(data: bytes, start: int, end: int, name: str, line: int) -> Iterator[Found]:
    """Yield the keys that begin at START or later and before END."""
    counted = 0
    while 0 <= start < end:
        token = data[start : start + KEY_LENGTH].decode("latin-1")
        if KEY.fullmatch(token) and keys.well_formed(token):
            line, counted = line + data.count(b"\n", counted, start), start
            yield Found(token, name, line)
        start = data.find(MARK, start + 1)


def in_history(folder: Path, counts: Counts) -> Iterator[Found]:
    """Yield the keys in everything that the repository of FOLDER keeps, each commit's files and messages.

    An object is named `.git:ID`; the line is that in the object.
    """
    command = ["git", "-C", str(folder), "cat-file", "--batch-all-objects", "--batch", "--unordered"]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as git:
        objects = cast(IO[bytes], git.stdout)
        while header := objects.readline():
            identifier, _, size = header.decode("ascii", "replace").split()
            name = f"{folder / GIT}:{identifier}"
            left = _Left(objects, int(size))
            yield from in_stream(left.read(CHUNK_BYTES), left, name, counts)  # type: ignore[arg-type]
            objects.read(1)
    counts.files += 1
    if git.returncode:
        counts.unreadable.append(str(folder / GIT))


class _Left:
    """The next bytes of a stream, as a stream of their own."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream = stream
        self.left = size

    def read(self, size: int) -> bytes:
        piece = self.stream.read(min(size, self.left))
        self.left -= len(piece)
        return piece
