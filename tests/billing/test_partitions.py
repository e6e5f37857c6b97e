"""The usage table's months: made ahead, detached when they are old, and never missing."""

from datetime import UTC, date, datetime
from unittest.mock import patch

import pytest
from django.db import DatabaseError, connection, connections, transaction

from billing import partitions
from tests.installation import populate

NOW = datetime(2031, 5, 17, 12, tzinfo=UTC)


def months() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relid::regclass::text FROM pg_partition_tree('billing_usage') WHERE isleaf")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.parametrize(
    ("months_later", "expected"), [(0, date(2031, 12, 1)), (1, date(2032, 1, 1)), (-12, date(2030, 12, 1))]
)
def test_months_are_counted_over_years(months_later: int, expected: date) -> None:
    assert partitions.month_after(date(2031, 12, 1), months_later) == expected


@pytest.mark.django_db
def test_this_month_and_the_next_two_are_made_once() -> None:
    names = ["billing_usage_2031_05", "billing_usage_2031_06", "billing_usage_2031_07"]
    assert partitions.ensure(NOW) == names
    assert partitions.ensure(NOW) == names
    assert set(names) <= months()


@pytest.mark.django_db
def test_old_months_are_detached_and_their_tables_stay() -> None:
    for month in (1, 2, 3, 4):
        partitions.ensure(datetime(2031, month, 1, tzinfo=UTC))
    assert "billing_usage_2031_02" in partitions.retire(NOW, 2)
    left = {name for name in months() if "2031" in name}
    assert left == {f"billing_usage_2031_{month:02}" for month in (3, 4, 5, 6)}
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM billing_usage_2031_02")
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db
def test_every_month_is_kept_unless_a_number_is_set() -> None:
    before = months()
    assert partitions.retire(NOW, 0) == []
    assert months() == before


@pytest.mark.django_db(transaction=True)
def test_detaching_gives_up_soon_behind_a_long_query_and_holds_nobody_up() -> None:
    populate()
    partitions.ensure(datetime(2020, 1, 1, tzinfo=UTC))
    other = connections.create_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM billing_usage")
        with pytest.raises(DatabaseError, match="lock timeout"):
            partitions.retire(NOW, 120)
        assert "billing_usage_2020_01" in months()
    finally:
        other.rollback()
        other.close()
    with transaction.atomic(), connection.cursor() as cursor:
        for name in partitions.retire(datetime(2021, 1, 1, tzinfo=UTC), 1):
            cursor.execute(f"DROP TABLE {name}")


@pytest.mark.django_db(transaction=True)
def test_making_gives_up_soon_behind_a_long_query_and_holds_nobody_up() -> None:
    """Behind a dump it would wait, and every request behind it that looks for what was settled before."""
    populate()
    other = connections.create_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM billing_usage_other")
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '5s'")
        with pytest.raises(DatabaseError, match="lock timeout"):
            partitions.ensure(datetime(2019, 1, 1, tzinfo=UTC))
        assert "billing_usage_2019_01" not in months()
    finally:
        other.rollback()
        other.close()
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout")


@pytest.mark.django_db
def test_nothing_is_made_where_the_migration_is_undone() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION aperture_usage_partition(date)")
    with patch.object(partitions, "ensure") as ensure:
        partitions.ensure_now()
    assert not ensure.called
