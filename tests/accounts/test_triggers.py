"""The version row counts changes once for each transaction, and survives its own loss."""

import pytest
from django.db import connection, transaction

from accounts.models import Grant, User, Version


def counts() -> tuple[int, int]:
    version = Version.objects.get()
    return version.catalog, version.keys


@pytest.mark.django_db(transaction=True)
def test_a_transaction_bumps_once_however_much_it_changes_and_not_before_its_end() -> None:
    Grant.objects.create(subjects=["everyone"])
    catalog, keys = counts()
    with transaction.atomic():
        for _ in range(3):
            Grant.objects.create(subjects=["everyone"])
        assert counts() == (catalog, keys)
    assert counts() == (catalog + 1, keys)
    user = User.objects.create_user("ada@example.com")
    before = counts()
    user.is_active = False
    user.save()
    assert counts() == (before[0], before[1] + 1)


@pytest.mark.django_db(transaction=True)
def test_a_truncated_version_row_is_made_again() -> None:
    Grant.objects.create(subjects=["everyone"])
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE accounts_version, accounts_grant")
    assert Version.objects.count() == 1
    Version.objects.all().delete()
    Grant.objects.create(subjects=["everyone"])
    assert counts() == (1, 0)
