"""The admin's page of limits."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts import keys
from accounts.models import User
from billing.models import Limit

pytestmark = pytest.mark.django_db
LIST, ADD = reverse("admin:billing_limit_changelist"), reverse("admin:billing_limit_add")


def added(client: Client, **fields: object) -> dict[str, list[str]]:
    """Send the form of a new limit; return its errors by field."""
    sent = {"kind": "requests_per_minute", "amount": "60", "enabled": "on", **fields}
    answer = client.post(ADD, sent)
    return {} if answer.status_code == 302 else dict(answer.context["adminform"].form.errors)


def test_a_limit_for_a_key_is_made_and_listed(client: Client, operator: User) -> None:
    key, _ = keys.mint(user=operator)
    assert added(client, scope="key", key=key.pk) == {}
    made = Limit.objects.get(scope="key")
    assert (made.key, made.amount, made.source) == (key, 60, "admin")
    page = client.get(LIST).content.decode()
    assert "60 requests a minute" in page
    assert "free models for each user without credit" in page


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scope": "key"}, "key"),
        ({"scope": "model"}, "model_glob"),
        ({"scope": "plan"}, "plan"),
        ({"scope": "sandbox", "model_glob": "x"}, "model_glob"),
        ({"scope": "model", "model_glob": "x", "plan": 1}, "plan"),
        ({"scope": "model", "model_glob": "x", "amount": "0"}, "amount"),
        ({"scope": "model", "model_glob": "x", "kind": "dollars"}, "kind"),
    ],
)
def test_a_form_that_names_the_wrong_thing_says_so_at_its_field(
    client: Client, fields: dict[str, object], field: str
) -> None:
    from billing.models import Plan

    if fields.get("plan"):
        fields = fields | {"plan": Plan.objects.all()[0].pk}
    assert field in added(client, **fields)
    assert Limit.objects.exclude(scope="sandbox").count() == 0


def test_the_same_limit_twice_is_refused(client: Client) -> None:
    assert added(client, scope="model", model_glob="a/*") == {}
    assert added(client, scope="model", model_glob="a/*")


def test_limits_are_switched_off_and_on_together(client: Client) -> None:
    chosen = [str(limit.pk) for limit in Limit.objects.all()]
    for action, enabled in (("switch_off", False), ("switch_on", True)):
        client.post(LIST, {"action": action, "_selected_action": chosen})
        assert set(Limit.objects.values_list("enabled", flat=True)) == {enabled}
