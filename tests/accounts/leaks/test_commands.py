"""The commands: `report_leak` and `scan`."""

import io
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts import keys
from accounts.leaks import scanning
from accounts.leaks.scanning import Bounds, Counts, Found
from accounts.models import APIKey, Leak, User

MIB = 1024 * 1024


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob@example.com")


@pytest.fixture
def key(bob: User) -> str:
    return keys.mint(user=bob, name="laptop")[1]


# --- report_leak ------------------------------------------------------------------------------------------------------
def report(monkeypatch: pytest.MonkeyPatch, text: str, **options: Any) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogateescape"))))
    said = io.StringIO()
    call_command("report_leak", stdout=said, **options)
    return said.getvalue()


def test_keys_on_standard_input_are_revoked_and_none_is_printed(
    key: str, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, dead_key = keys.mint(user=bob)
    dead.revoke(timezone.now())
    elsewhere = keys.generate()
    said = report(monkeypatch, f"export KEY={key}\n{dead_key}, {elsewhere} sg-0123456789abcdef0", url="https://x/y")
    assert said.splitlines() == [
        f"{keys.mask(key)} revoked; a worker replaces it and tells its owner.",
        f"{keys.mask(dead_key)} was issued here, and is not accepted any more.",
        f"{keys.mask(elsewhere)} is no key of this installation.",
    ]
    assert not APIKey.objects.filter(revoked_at=None).exists()
    assert set(Leak.objects.values_list("channel", "url", "source")) == {("command", "https://x/y", "report")}


def test_keys_in_a_file_are_revoked(key: str, tmp_path: Path) -> None:
    path = tmp_path / "found.txt"
    path.write_bytes(b"\xff\x00" + key.encode() + b"ABC")
    call_command("report_leak", file=path, source="chat", stdout=io.StringIO())
    assert Leak.objects.get().source == "chat"


def test_a_text_without_a_key_and_a_file_that_is_not_there_are_refused_by_name(
    bob: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match="no API key"):
        report(monkeypatch, "sg-0123456789abcdef0")
    with pytest.raises(CommandError, match=r"gone\.txt cannot be read: No such file"):
        call_command("report_leak", file=tmp_path / "gone.txt")


def test_a_key_cannot_be_an_argument(key: str) -> None:
    with pytest.raises(CommandError, match="unrecognized arguments"):
        call_command("report_leak", key)


# --- scan -------------------------------------------------------------------------------------------------------------
def found_in(data: bytes, **bounds: Any) -> list[Found]:
    return list(scanning.in_stream(data[: scanning.HEAD_BYTES], io.BytesIO(data[scanning.HEAD_BYTES :]), "f", Counts()))


def test_a_key_is_found_wherever_pieces_of_a_file_begin() -> None:
    key = keys.generate()
    for offset in (scanning.HEAD_BYTES, scanning.HEAD_BYTES + scanning.CHUNK_BYTES):
        for shift in range(-len(key) - 1, 2):
            data = b"\n" * (offset + shift) + key.encode() + b"\nmore\n"
            assert found_in(data) == [Found(key, "f", offset + shift + 1)]


@pytest.mark.parametrize("around", [b"%s", b"KEY=%s", b"msg-%s", b'"%s"', b"sg-%s", b"x%sABC", b"sg-sg-%s\r\n"])
def test_what_is_around_a_key_does_not_hide_it(around: bytes) -> None:
    key = keys.generate()
    assert [each.token for each in found_in(around % key.encode())] == [key]


def test_look_alikes_are_not_found() -> None:
    key = keys.generate()
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    texts = [
        "sg-0a1b2c3d4e5f60718",
        "sg-903004f8",
        wrong,
        key[:-1],
        key.replace("sg-", "sk-"),
        key[:20] + "\n" + key[20:],
    ]
    assert found_in("\n".join(texts).encode()) == []


def test_lines_are_counted_from_one_for_each_of_several_keys() -> None:
    first, second = keys.generate(), keys.generate()
    data = f"a\nb {first} {second}\n\n{first}".encode()
    assert [(each.token, each.line) for each in found_in(data)] == [(first, 2), (second, 2), (first, 4)]


@pytest.fixture
def folder(tmp_path: Path, key: str) -> Path:
    """A folder with Bob's key in places that count and in places that do not."""
    root = tmp_path / "work"
    (root / "src").mkdir(parents=True)
    (root / ".git" / "objects").mkdir(parents=True)
    (root / "src" / "settings.py").write_text(f"# settings\nKEY = '{key}'\n")
    (root / "src" / "elsewhere.py").write_text(keys.generate())
    (root / "picture.png").write_bytes(b"\x89PNG\x00" + key.encode())
    (root / ".git" / "config").write_text(key)
    (root / "large.log").write_text(key + "x" * MIB)
    (root / "link.txt").symlink_to(root / "src" / "settings.py")
    os.mkfifo(root / "pipe")
    return root


def scan(*paths: Path, status: int = 0, **options: Any) -> tuple[list[str], str]:
    said, told = io.StringIO(), io.StringIO()
    try:
        call_command("scan", *map(str, paths), stdout=said, stderr=told, **options)
        ended = 0
    except SystemExit as end:
        ended = int(str(end.code))
    assert ended == status
    return said.getvalue().splitlines(), told.getvalue()


def test_a_live_key_is_told_with_its_file_and_line_and_the_status_is_1(folder: Path, key: str) -> None:
    lines, summary = scan(folder, status=1, max_mb=1)
    [other] = [line for line in lines if "elsewhere" in line]
    assert other.endswith(" unknown")
    assert f"{folder}/src/settings.py:2: {keys.mask(key)} live, laptop of bob@example.com" in lines
    assert len(lines) == 2
    assert "2 files, " in summary
    assert "1 keys live, 0 dead, 1 of other installations. Left out: 1 binary, 1 too large, 0 unreadable." in summary
    assert key[5:30] not in "".join(lines) + summary
    assert (APIKey.objects.get().revoked_at, Leak.objects.count()) == (None, 0)


def test_what_is_left_out_is_read_where_asked(folder: Path) -> None:
    lines, _ = scan(folder, status=1, binary=True)
    assert sorted(line.partition(":")[0].rpartition("/")[2] for line in lines) == [
        "elsewhere.py",
        "large.log",
        "picture.png",
        "settings.py",
    ]


def test_with_report_what_is_found_is_revoked_and_the_next_scan_is_clean(folder: Path) -> None:
    lines, summary = scan(folder, status=1, report=True, binary=True)
    assert len([line for line in lines if " live, " in line]) == 3
    assert "3 keys live until now and revoked" in summary
    assert APIKey.objects.get().revoked_at is not None
    assert Leak.objects.filter(was_live=True).count() == 3
    assert {leak.url.partition(":")[0] for leak in Leak.objects.all()} >= {f"{folder}/src/settings.py"}
    lines, _ = scan(folder)
    assert [line.rsplit(" ", 4)[1] for line in lines if "settings" in line] == ["dead,"]


def test_a_file_can_be_named_and_one_that_is_not_there_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    lines, _ = scan(folder / "src" / "settings.py", status=1)
    assert len(lines) == 1
    with pytest.raises(CommandError, match="gone does not exist"):
        scan(tmp_path / "gone")


def test_what_git_keeps_is_searched_where_asked(tmp_path: Path, key: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path)}
    names = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"]
    root = tmp_path / "shop"

    def git(*words: str) -> None:
        subprocess.run(["git", *names, "-C", str(root), *words], check=True, env=environment, capture_output=True)

    root.mkdir()
    git("init", "-q")
    (root / "a.py").write_text(f"\n\nKEY = '{key}'\n")
    git("add", "-A")
    git("commit", "-qm", "Add the shop")
    (root / "a.py").write_text("\n")
    git("commit", "-qam", "Take the key out")
    assert scan(root)[0] == []
    lines, _ = scan(root, status=1, history=True)
    git("gc", "-q")
    packed, _ = scan(root, status=1, history=True)
    assert lines == packed
    [line] = lines
    assert line.startswith(f"{root}/.git:")
    assert f":3: {keys.mask(key)} live" in line


def test_a_repository_that_git_cannot_read_is_named(tmp_path: Path, bob: User) -> None:
    (tmp_path / ".git").mkdir()
    _, summary = scan(tmp_path, history=True)
    assert f"not read: {tmp_path}/.git" in summary


def test_a_file_is_not_held_in_memory(tmp_path: Path, key: str) -> None:
    import tracemalloc

    noise = zlib.compress(os.urandom(MIB)).hex().encode()
    with (tmp_path / "noise.txt").open("wb") as file:
        for _ in range(20):
            file.write(noise + b"\nsg-group\n")
        file.write(key.encode())
    counts = Counts()
    tracemalloc.start()
    found = list(scanning.walk(tmp_path, Bounds(), counts))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [each.token for each in found] == [key]
    assert counts.bytes > 40 * MIB
    assert peak_bytes < 8 * MIB
