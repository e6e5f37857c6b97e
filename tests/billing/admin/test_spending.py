"""The admin's pages of spending limits: dollars in, dollars out, and the refill."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Grant, User
from billing.models import Bucket, SpendingLimit

DOLLAR = 10**9


@pytest.fixture
def limit(db: None) -> SpendingLimit:
    return SpendingLimit.objects.create(name="daily-<user>", capacity_nanos=5 * DOLLAR, rate_nanos=5 * DOLLAR)


@pytest.fixture
def bucket(limit: SpendingLimit, operator: User) -> Bucket:
    return Bucket.objects.create(limit=limit, subject=f"user:{operator.pk}", spent_nanos=4 * DOLLAR, held_nanos=DOLLAR)


def fields(**changed: str) -> dict[str, str]:
    plain = {"name": "team-month", "kind": "calendar", "capacity_nanos": "100", "rate_nanos": "", "period": "month"}
    return {"enabled": "on", "hard": "on", "subject": "", **plain, **changed}


def errors(answer: Any) -> str:
    return str(answer.context["adminform"].form.errors)


def test_a_limit_is_written_in_dollars(client: Client) -> None:
    client.post(reverse("admin:billing_spendinglimit_add"), fields(subject="user:Ann@Example.com"))
    row = SpendingLimit.objects.get()
    assert (row.capacity_nanos, row.rate_nanos, row.period, row.kind) == (100 * DOLLAR, 0, "month", "calendar")
    assert (row.subject, row.source) == ("user:ann@example.com", "admin")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": "daily-<node>"}, "unsupported template"),
        ({"name": "a b"}, "Use letters, digits"),
        ({"subject": "label:x"}, "unreadable subject"),
        ({"capacity_nanos": "-1"}, "Write an amount of 0 or more."),
        ({"capacity_nanos": ""}, "This field is required."),
        ({"rate_nanos": "1"}, "starts anew with each period"),
        ({"period": "year"}, "Select a valid choice"),
    ],
)
def test_what_a_limit_cannot_be(client: Client, changed: dict[str, str], sentence: str) -> None:
    assert sentence in errors(client.post(reverse("admin:billing_spendinglimit_add"), fields(**changed)))
    assert not SpendingLimit.objects.exists()


def test_renaming_or_deleting_what_a_grant_names_is_told(client: Client, limit: SpendingLimit) -> None:
    Grant.objects.create(subjects=["everyone"], quotas=[limit.name])
    page = reverse("admin:billing_spendinglimit_change", args=[limit.pk])
    fine = client.post(page, fields(name=limit.name), follow=True).content.decode()
    assert "which is not defined" not in fine
    sentence = f"names the spending limit {limit.name}, which is not defined".replace("<", "&lt;").replace(">", "&gt;")
    assert sentence in client.post(page, fields(name="renamed"), follow=True).content.decode()
    delete = reverse("admin:billing_spendinglimit_delete", args=[limit.pk])
    assert sentence in client.post(delete, {"post": "yes"}, follow=True).content.decode()
    assert not SpendingLimit.objects.exists()


def test_a_limit_s_page_shows_whom_it_binds_and_its_buckets(
    client: Client, limit: SpendingLimit, bucket: Bucket
) -> None:
    Grant.objects.create(subjects=["group:research"], quotas=[limit.name])
    Grant.objects.create(subjects=["group:ops"], quotas=["another"])
    text = client.get(reverse("admin:billing_spendinglimit_change", args=[limit.pk])).content.decode()
    assert "by grant: group:research" in text
    assert "group:ops" not in text
    assert "daily-alice@example.com" in text
    assert "$1.00 held, full at 20" in text
    listed = client.get(reverse("admin:billing_spendinglimit_changelist")).content.decode()
    assert "by grants" in listed
    assert "$5.00 in a day" in listed


def test_a_bucket_shows_what_has_flowed_back_since(client: Client, bucket: Bucket) -> None:
    Bucket.objects.update(measured_at=timezone.now() - timedelta(hours=12))
    for page in (
        reverse("admin:billing_bucket_changelist"),
        reverse("admin:billing_bucket_change", args=[bucket.pk]),
    ):
        text = client.get(page).content.decode()
        assert "daily-alice@example.com" in text
        # Four dollars were spent, half of five are back, one is held.
        assert re.search(r"\$2\.50|\$2\.499", text)
        assert re.search(r"\$1\.5|\$1\.499", text)


def test_a_refill_needs_a_reason_and_a_confirmation_and_is_logged(client: Client, bucket: Bucket) -> None:
    page = reverse("admin:billing_bucket_refill", args=[bucket.pk])
    token = re.search(r'name="token" value="([^"]+)"', client.get(page).content.decode())
    assert token is not None
    asked = {"token": token[1], "reason": ""}
    assert "This field is required." in client.post(page, asked | {"confirmed": "yes"}).content.decode()
    asked["reason"] = "a release week"
    shown = client.post(page, asked).content.decode()
    assert "Given back" in shown
    assert Bucket.objects.get().spent_nanos == 4 * DOLLAR
    client.post(page, asked | {"confirmed": "yes"})
    row = Bucket.objects.get()
    assert (row.spent_nanos, row.held_nanos) == (0, DOLLAR)
    [entry] = LogEntry.objects.all()
    assert entry.change_message.startswith("Refilled daily-alice@example.com by $3.99")
    assert "a release week" in entry.change_message
    client.post(page, asked | {"confirmed": "yes"})
    assert Bucket.objects.get().spent_nanos == 0


def test_an_onlooker_sees_the_pages_and_refills_nothing(onlooker: Client, bucket: Bucket, limit: SpendingLimit) -> None:
    assert onlooker.get(reverse("admin:billing_bucket_change", args=[bucket.pk])).status_code == 200
    assert onlooker.get(reverse("admin:billing_spendinglimit_change", args=[limit.pk])).status_code == 200
    page = reverse("admin:billing_bucket_refill", args=[bucket.pk])
    assert onlooker.post(page, {"reason": "x", "confirmed": "yes"}).status_code == 403
    assert Bucket.objects.get().spent_nanos == 4 * DOLLAR


def test_no_form_writes_a_bucket(client: Client, bucket: Bucket) -> None:
    assert client.get(reverse("admin:billing_bucket_add")).status_code == 403
    assert client.get(reverse("admin:billing_bucket_delete", args=[bucket.pk])).status_code == 403
    client.post(reverse("admin:billing_bucket_change", args=[bucket.pk]), {"spent_nanos": "0", "held_nanos": "0"})
    row = Bucket.objects.get()
    assert (row.spent_nanos, row.held_nanos) == (4 * DOLLAR, DOLLAR)
