"""What the database lets a limit be, and that every process learns of a change."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from accounts import keys
from accounts.models import User
from billing import sandbox
from billing.models import Limit, Plan

pytestmark = pytest.mark.django_db


@pytest.fixture
def targets() -> dict[str, Any]:
    """One thing of each scope, as the columns that name it."""
    user = User.objects.create_user("ada@example.com")
    row, _ = keys.mint(user=user)
    return {
        "key": {"key": row},
        "user": {"user": user},
        "organization": {"organization": row.organization},
        "plan": {"plan": Plan.objects.get(slug=Plan.FREE)},
        "model": {"model_glob": "openai/*"},
        "sandbox": {},
    }


def refused(**fields: Any) -> bool:
    """Tell whether the database refuses a limit."""
    try:
        with transaction.atomic():
            Limit.objects.create(**({"kind": "concurrency", "amount": 5} | fields))
    except IntegrityError:
        return True
    return False


def test_a_limit_names_exactly_what_its_scope_says(targets: dict[str, Any]) -> None:
    for scope, columns in targets.items():
        for other, more in targets.items():
            if other != scope and more:
                assert refused(scope=scope, **columns, **more), (scope, other)
        if columns:
            assert refused(scope=scope)
        assert not refused(scope=scope, **columns)
        assert refused(scope=scope, **columns), f"{scope} twice"
        assert not refused(scope=scope, **columns, kind="tokens_per_day")
    assert refused(scope="nothing")


@pytest.mark.parametrize("fields", [{"amount": 0}, {"amount": -1}, {"amount": 10**13}, {"kind": "requests"}])
def test_amounts_and_kinds_that_mean_nothing_are_refused(fields: dict[str, Any]) -> None:
    assert refused(scope="model", model_glob="**", **fields)


def test_two_globs_are_two_limits() -> None:
    assert [refused(scope="model", model_glob=glob) for glob in ("a/*", "b/*", "a/*")] == [False, False, True]


def test_the_sandbox_begins_with_twenty_a_minute_and_two_hundred_a_day() -> None:
    seeded = Limit.objects.filter(scope=Limit.SANDBOX)
    assert dict(seeded.values_list("kind", "amount")) == {"requests_per_minute": 20, "requests_per_day": 200}


def test_what_an_operator_changed_or_deleted_is_not_made_again() -> None:
    Limit.objects.filter(kind=Limit.REQUESTS_PER_MINUTE).update(amount=5)
    Limit.objects.filter(kind=Limit.REQUESTS_PER_DAY).delete()
    sandbox.seed()
    assert list(Limit.objects.values_list("kind", "amount")) == [("requests_per_minute", 5)]


def test_a_limit_says_what_it_limits(targets: dict[str, Any]) -> None:
    texts = [str(Limit(scope=scope, kind="concurrency", amount=1500, **each)) for scope, each in targets.items()]
    assert texts[1] == "1,500 requests at once: ada@example.com"
    assert texts[4] == "1,500 requests at once: openai/*"
    assert texts[5] == "1,500 requests at once: free models for each user without credit"


@pytest.mark.django_db(transaction=True)
def test_a_change_bumps_the_catalog_s_version() -> None:
    def version() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT coalesce(max(catalog), 0) FROM accounts_version")
            return int(cursor.fetchone()[0])

    before = version()
    made = Limit.objects.create(scope="model", model_glob="**", kind="concurrency", amount=1)
    created = version()
    Limit.objects.filter(pk=made.pk).update(amount=2)
    changed = version()
    made.delete()
    assert before < created < changed < version()
