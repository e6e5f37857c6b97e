"""Secrets are made once, readable by their owner alone, and never overwritten."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aperture_site import env, secret_files

NAME = "APERTURE_SAMPLE_SECRET"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    made = secret_files.value(NAME, tmp_path)
    path = tmp_path / "secrets" / "sample_secret"
    assert len(made) == 44
    assert path.read_text() == f"{made}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert secret_files.value(NAME, tmp_path) == made


def test_those_who_start_at_once_get_the_same_secret_and_leave_no_draft(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as starters:
        made = set(starters.map(lambda _: secret_files.value(NAME, tmp_path), range(32)))
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["sample_secret"]


def test_the_environment_comes_before_the_file_and_lists_the_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, "new, old")
    assert secret_files.values(NAME, tmp_path) == ["new", "old"]
    assert not (tmp_path / "secrets").exists()


def test_a_file_of_several_lines_holds_versions(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "sample_secret").write_text("new\nold\n")
    assert secret_files.values(NAME, tmp_path) == ["new", "old"]


def test_an_empty_file_is_refused_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "sample_secret"
    path.parent.mkdir()
    path.touch()
    with pytest.raises(env.SettingError, match=r"sample_secret is empty; restore it from a backup"):
        secret_files.value(NAME, tmp_path)
    assert path.read_text() == ""


def test_another_users_secret_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(env.SettingError, match="is another user's; start as the one that owns"):
        secret_files.value(NAME, tmp_path)
