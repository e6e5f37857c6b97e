"""The admin's pages of redeem codes: shown once, kept as digests, made once."""

import base64
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import redeem
from billing.models import RedeemBatch, RedeemCode

ADD = "admin:billing_redeembatch_add"


def fields(**others: Any) -> dict[str, Any]:
    return {
        "note": "Conference", "codes_count": "3", "amount_nanos": "5", "expires_at_0": "", "expires_at_1": "",
        "token": str(uuid.uuid4()),
    } | others  # fmt: skip


def test_a_batch_shows_its_codes_once_and_keeps_their_digests(client: Client) -> None:
    data = fields()
    answer = client.post(reverse(ADD), data)
    text = answer.content.decode()
    codes = re.findall(r"AP(?:-[0-9A-Z]{4}){4}", re.sub(r"base64,\S+", "", text))
    assert len(set(codes)) == 3
    assert "no-store" in answer["cache-control"]
    downloaded = re.search(r"base64,([A-Za-z0-9+/=]+)", text)
    assert downloaded
    lines = base64.b64decode(downloaded[1]).decode().splitlines()
    assert lines == ["code,dollars,expires_at", *(f"{code},5.00," for code in codes)]
    assert {bytes(row.digest) for row in RedeemCode.objects.all()} == {redeem.digests(code)[0] for code in codes}
    again = client.post(reverse(ADD), data, follow=True).content.decode()
    assert "none were made now" in again
    assert RedeemCode.objects.count() == 3
    batch = RedeemBatch.objects.get()
    pages = [
        reverse("admin:billing_redeembatch_change", args=[batch.pk]),
        reverse("admin:billing_redeembatch_changelist"),
    ]
    for page in pages:
        shown = client.get(page).content.decode()
        assert "Conference" in shown
        assert not any(code in shown for code in codes)


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"amount_nanos": "0"}, "Write an amount above zero."),
        ({"codes_count": "0"}, "greater than or equal to 1"),
        ({"codes_count": "10001"}, "less than or equal to 10000"),
        ({"codes_count": "300"}, "300 codes would give away $1500.00; at most $1,000"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}, "This moment is past."),
    ],
)
def test_a_batch_that_cannot_be_is_refused(client: Client, others: dict[str, str], sentence: str) -> None:
    assert sentence in client.post(reverse(ADD), fields(**others)).content.decode()
    assert not RedeemBatch.objects.exists()


def test_a_batch_is_stopped(client: Client) -> None:
    client.post(reverse(ADD), fields())
    batch = RedeemBatch.objects.get()
    client.post(reverse("admin:billing_redeembatch_stop", args=[batch.pk]), {"_form_submitted": "on"})
    batch.refresh_from_db()
    assert batch.stopped_at is not None
    assert timezone.now() - batch.stopped_at < timedelta(minutes=1)


def test_who_may_only_look_makes_and_stops_nothing(client: Client, onlooker: Client) -> None:
    client.post(reverse(ADD), fields())
    batch = RedeemBatch.objects.get()
    assert onlooker.get(reverse("admin:billing_redeembatch_change", args=[batch.pk])).status_code == 200
    assert onlooker.get(reverse(ADD)).status_code == 403
    assert onlooker.post(reverse(ADD), fields()).status_code == 403
    assert onlooker.post(reverse("admin:billing_redeembatch_stop", args=[batch.pk])).status_code == 403
    batch.refresh_from_db()
    assert batch.stopped_at is None
    assert RedeemBatch.objects.count() == 1
