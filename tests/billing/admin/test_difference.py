"""The admin's page of differences: open ones, unless others are asked for."""

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import Difference

LIST = "admin:billing_difference_changelist"


def test_open_differences_are_listed_and_resolved_ones_on_demand(client: Client) -> None:
    now = timezone.now()
    for subject, resolved_at in (("organization 1", None), ("organization 2", now)):
        Difference.objects.create(
            name="wallet posted", subject=subject, detail="of 1", first_seen_at=now, last_seen_at=now,
            resolved_at=resolved_at,
        )  # fmt: skip

    def listed(**query: str) -> set[str]:
        return {row.subject for row in client.get(reverse(LIST), query).context["cl"].result_list}

    assert listed() == {"organization 1"}
    assert listed(state="resolved") == {"organization 2"}
    assert listed(state="all") == {"organization 1", "organization 2"}


def test_nobody_writes_differences_by_hand(client: Client) -> None:
    assert client.get(reverse("admin:billing_difference_add")).status_code == 403
