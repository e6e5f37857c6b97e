"""The schedule names tasks that exist, and each of them runs."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Organization
from aperture_site.celery import app
from billing.models import Difference, Plan, Transfer, Wallet

ENTRIES = app.conf.beat_schedule


def test_every_entry_names_a_task_of_the_worker() -> None:
    app.loader.import_default_modules()
    assert {entry["task"] for entry in ENTRIES.values()} <= set(app.tasks)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_runs_twice(name: str) -> None:
    app.loader.import_default_modules()
    outcomes = [app.tasks[ENTRIES[name]["task"]].apply() for _ in range(2)]
    assert [outcome.state for outcome in outcomes] == ["SUCCESS", "SUCCESS"]


@pytest.mark.django_db
def test_the_tasks_do_what_they_are_named_after(settings: Settings) -> None:
    app.loader.import_default_modules()
    organization = Organization.objects.create(name="Acme")
    Wallet.objects.create(organization=organization, mode=Wallet.PREPAID, plan=Plan.objects.get(slug=Plan.PRO))
    app.tasks["billing.tasks.post_monthly_credit"]()
    assert Transfer.objects.get().reference == f"plan:{organization.pk}:{timezone.now().astimezone(UTC):%Y-%m}"
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE billing_wallet DISABLE TRIGGER USER")
    Wallet.objects.update(posted_nanos=1)
    app.tasks["billing.tasks.reconcile"]()
    assert {row.name for row in Difference.objects.all()} == {"wallet posted", "books"}
    settings.USAGE_MONTHS = 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT aperture_usage_partition(%s)", [datetime(2020, 1, 1, tzinfo=UTC).date()])
        app.tasks["billing.tasks.detach_old_months"]()
        cursor.execute("SELECT count(*) FROM pg_partition_tree('billing_usage') WHERE relid::regclass::text ~ '2020'")
        assert cursor.fetchone() == (0,)
