"""The version row counts changes once for each transaction, and survives its own loss."""

import threading
import uuid

import pytest
from django.db import connection, connections, transaction

from accounts.models import Grant, User, Version
from tests.installation import populate


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


CHANGES = [
    ("UPDATE accounts_apikey SET revoked_at = now()", 0, 1),
    ("UPDATE accounts_apikey SET expires_at = now()", 0, 1),
    ("UPDATE accounts_apikey SET model_globs = '{a}', ip_allowlist = '{10.0.0.1}', labels = '{}'", 0, 1),
    ("DELETE FROM accounts_apikey", 0, 1),
    ("UPDATE accounts_user SET is_active = false", 0, 1),
    ("UPDATE accounts_user SET email = upper(email)", 0, 1),
    ("UPDATE accounts_organization SET is_active = false", 0, 1),
    ("UPDATE accounts_group SET name = name || 'x'", 0, 1),
    ("DELETE FROM accounts_group_members", 0, 1),
    ("UPDATE accounts_membership SET role = 'member'", 0, 1),
    ("TRUNCATE accounts_apikey CASCADE", 3, 3),
    ("TRUNCATE accounts_grant", 1, 1),
    ("UPDATE accounts_grant SET role = 'admin'", 1, 0),
    ("DELETE FROM accounts_grant", 1, 0),
    ("UPDATE catalog_provider SET preference = 3", 1, 0),
    ("UPDATE catalog_provider SET base_url = 'http://127.0.0.2'", 1, 0),
    ("UPDATE catalog_credential SET enabled = false", 1, 0),
    ("UPDATE catalog_model SET listed = false", 1, 0),
    ("DELETE FROM catalog_alias", 1, 0),
    ("UPDATE catalog_target SET weight = 3", 1, 0),
    (
        "INSERT INTO catalog_price (target_id, effective_at, service_tier, input, output, source, created_at)"
        " SELECT id, now(), '', 5, 5, 'operator', now() FROM catalog_target",
        1,
        0,
    ),
    ("DELETE FROM catalog_price; DELETE FROM catalog_target", 1, 0),
    ("UPDATE accounts_grant SET role = 'admin'; UPDATE accounts_user SET is_active = false", 1, 1),
    # What decides nothing.
    ("UPDATE accounts_apikey SET last_used_at = now(), name = 'x'", 0, 0),
    ("UPDATE accounts_user SET last_login = now(), name = 'x', password = 'x', is_staff = true", 0, 0),
    ("UPDATE accounts_organization SET name = 'x'", 0, 0),
    ("UPDATE billing_usage SET status = 500", 0, 0),
    ("UPDATE accounts_grant SET role = 'admin' WHERE false", 0, 0),
]


@pytest.mark.django_db(transaction=True)
def test_what_decides_who_may_call_what_bumps_its_part_once() -> None:
    populate()
    bumped = []
    for statement, _, _ in CHANGES:
        before = counts()
        with transaction.atomic(), connection.cursor() as cursor:
            # Each finds every row again: what a commit would fire is fired, and the transaction is undone.
            cursor.execute(statement)
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            after = counts()
            transaction.set_rollback(True)
        bumped.append((statement, after[0] - before[0], after[1] - before[1]))
    assert bumped == CHANGES


@pytest.mark.django_db(transaction=True)
def test_copied_rows_bump_once_and_those_rolled_back_never() -> None:
    Grant.objects.create(subjects=["everyone"])
    before = counts()
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY accounts_grant (name, subjects, role, model_globs, quotas, hooks, add_headers, source, enabled)"
            " FROM STDIN"
        ) as copy,
    ):
        for number in range(5):
            copy.write_row((f"g{number}", "{everyone}", "user", "{**}", "{}", "[]", "{}", "admin", True))
    assert counts() == (before[0] + 1, before[1])
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Grant.objects.all().delete()
        raise ZeroDivisionError
    assert counts() == (before[0] + 1, before[1])


@pytest.mark.django_db(transaction=True)
def test_a_savepoint_that_is_undone_takes_no_bump_along() -> None:
    Grant.objects.create(subjects=["everyone"])
    before = counts()
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Grant.objects.create(subjects=["everyone"])
            raise ZeroDivisionError
        Grant.objects.create(subjects=["everyone"])
    assert counts() == (before[0] + 1, before[1])


@pytest.mark.django_db(transaction=True)
def test_transactions_that_change_both_parts_in_either_order_never_deadlock() -> None:
    everything = populate()
    ready = threading.Barrier(2)
    failures: list[BaseException] = []

    def change(grants_first: bool) -> None:
        try:
            for _ in range(15):
                ready.wait(10)
                with transaction.atomic():
                    for grants in (grants_first, not grants_first):
                        if grants:
                            Grant.objects.create(subjects=["everyone"])
                        else:
                            everything.group.members.add(User.objects.create_user(f"{uuid.uuid4()}@example.com"))
        except BaseException as error:
            failures.append(error)
            ready.abort()
        finally:
            connections.close_all()

    before = counts()
    threads = [threading.Thread(target=change, args=(order,)) for order in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert counts() == (before[0] + 30, before[1] + 30)
