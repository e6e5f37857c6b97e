"""The admin's pages of plans: dollars and factors, and a Free plan that stays."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import Plan


def fields(**others: Any) -> dict[str, Any]:
    return {
        "name": "Team", "slug": "team", "position": "4", "markup_ppm": "1.15", "price_nanos": "49.90",
        "monthly_credit_nanos": "10", "cache_lifetime_s": "60", "public": "on", "fallback": "on",
    } | others  # fmt: skip


def test_a_plan_is_written_in_dollars_and_a_factor(client: Client) -> None:
    client.post(reverse("admin:billing_plan_add"), fields())
    plan = Plan.objects.get(slug="team")
    assert (plan.markup_ppm, plan.price_nanos, plan.monthly_credit_nanos) == (1_150_000, 49_900_000_000, 10_000_000_000)
    text = client.get(reverse("admin:billing_plan_change", args=[plan.pk])).content.decode()
    for shown in ('value="1.15"', 'value="49.90"', 'value="10.00"'):
        assert shown in text
    assert "x 1.15" in client.get(reverse("admin:billing_plan_changelist")).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("markup_ppm", "much", "is no factor"),
        ("markup_ppm", "1.2000001", "at most six decimal places"),
        ("markup_ppm", "-1", "from 0 to 2147"),
        ("markup_ppm", "NaN", "from 0 to 2147"),
        ("price_nanos", "-1", "Write an amount of 0 or more."),
        ("price_nanos", "NaN", "whole number of nano-dollars"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused(client: Client, field: str, value: str, sentence: str) -> None:
    assert sentence in client.post(reverse("admin:billing_plan_add"), fields(**{field: value})).content.decode()
    assert not Plan.objects.filter(slug="team").exists()


def test_the_free_plan_stays_and_others_may_go(client: Client) -> None:
    free, enterprise = Plan.objects.get(slug=Plan.FREE), Plan.objects.get(slug=Plan.ENTERPRISE)
    assert client.post(reverse("admin:billing_plan_delete", args=[free.pk]), {"post": "yes"}).status_code == 403
    client.post(reverse("admin:billing_plan_delete", args=[enterprise.pk]), {"post": "yes"})
    client.post(
        reverse("admin:billing_plan_changelist"),
        {"action": "delete_selected", "_selected_action": [free.pk], "post": "yes"},
    )
    assert set(Plan.objects.values_list("slug", flat=True)) == {Plan.FREE, Plan.PRO}


def test_the_name_that_code_knows_a_plan_by_stays(client: Client) -> None:
    free = Plan.objects.get(slug=Plan.FREE)
    client.post(reverse("admin:billing_plan_change", args=[free.pk]), fields(name="Starter", slug="starter"))
    free.refresh_from_db()
    assert (free.name, free.slug) == ("Starter", "free")


def test_who_may_only_look_changes_no_plan(onlooker: Client) -> None:
    free = Plan.objects.get(slug=Plan.FREE)
    assert onlooker.get(reverse("admin:billing_plan_change", args=[free.pk])).status_code == 200
    assert onlooker.post(reverse("admin:billing_plan_change", args=[free.pk]), fields()).status_code == 403
