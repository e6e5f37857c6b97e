"""Idempotency keys are forgotten after a day, and not before."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from billing import idempotency
from billing.models import IdempotencyKey


@pytest.mark.django_db
def test_keys_of_more_than_a_day_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "STEP_ROWS", 2)
    now = timezone.now()
    for number, hours in enumerate((30, 26, 25, 24.5, 24.1, 23.9, 1)):
        IdempotencyKey.objects.create(
            organization_id=1,
            key=f"key-{number}",
            body_digest=b"x" * 32,
            request_id=uuid.uuid4(),
            created_at=now - timedelta(hours=hours),
        )
    assert idempotency.prune(now) == 5
    assert set(IdempotencyKey.objects.values_list("key", flat=True)) == {"key-5", "key-6"}
    assert idempotency.prune(now) == 0
