"""A month that is no longer kept becomes a file with all of its rows, and only then its table goes."""

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from billing import archive, partitions, tasks
from tests.billing.test_rollups import a_row

pytestmark = pytest.mark.django_db
FEBRUARY = datetime(2020, 2, 17, 12, tzinfo=UTC)
TABLE = "billing_usage_2020_02"


@pytest.fixture
def detached() -> None:
    """A month with two rows, one of them with a line end and a quote in it."""
    partitions.ensure(FEBRUARY)
    a_row(FEBRUARY)
    a_row(FEBRUARY, client='an "agent"\nof two lines', labels={"team": "ä"})
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE billing_usage DETACH PARTITION {TABLE}")


def is_there(table: str = TABLE) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [table])
        return bool(cursor.fetchall()[0][0])


def test_a_detached_month_becomes_a_file_and_those_that_are_kept_stay(detached: None, tmp_path: Path) -> None:
    assert archive.run(tmp_path / "usage") == [tmp_path / "usage" / "usage-2020-02.csv.gz"]
    assert not is_there()
    assert is_there("billing_usage_2020_03")
    assert [path.name for path in (tmp_path / "usage").iterdir()] == ["usage-2020-02.csv.gz"]
    with gzip.open(tmp_path / "usage" / "usage-2020-02.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["client"] for row in rows} == {"", 'an "agent"\nof two lines'}
    assert {row["labels"] for row in rows} == {"", '{"team": "ä"}'}
    assert [row["charge_nanos"] for row in rows] == ["9", "9"]
    assert archive.run(tmp_path / "usage") == []


def test_what_a_process_that_was_killed_left_behind_goes(detached: None, tmp_path: Path) -> None:
    (tmp_path / ".usage-2020-02.csv.gz.99").write_bytes(b"half")
    archive.run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["usage-2020-02.csv.gz"]


def test_a_file_that_is_not_whole_leaves_the_table(
    detached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_rows", lambda path: 1)
    with pytest.raises(archive.Incomplete, match="1 rows of 2"):
        archive.run(tmp_path)
    assert is_there()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_leaves_the_table(detached: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        archive.run(tmp_path / "file")
    assert is_there()


def test_the_nightly_task_archives_where_a_folder_is_set(detached: None, tmp_path: Path, settings: Any) -> None:
    settings.USAGE_MONTHS = 0
    tasks.detach_old_months()
    assert is_there()
    settings.USAGE_ARCHIVE_DIR = str(tmp_path)
    tasks.detach_old_months()
    assert not is_there()
    assert [path.name for path in tmp_path.iterdir()] == ["usage-2020-02.csv.gz"]


@pytest.mark.django_db(transaction=True)
def test_one_process_archives_at_a_time(tmp_path: Path) -> None:
    settings = connection.get_connection_params()
    settings.pop("cursor_factory", None), settings.pop("context", None)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE billing_usage_2019_01 (LIKE billing_usage)")
    with psycopg.connect(**settings) as other, other.transaction():
        other.execute(archive.LOCK)
        assert archive.run(tmp_path) == []
    assert archive.run(tmp_path) == [tmp_path / "usage-2019-01.csv.gz"]
