"""The admin's pages of keys: what a reset breaks is said before it, and how each key stands is seen in the list."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import acceptance, handover, rotation
from accounts.models import APIKey, Organization, RetiredSecret, User
from billing import usage
from billing.models import Usage
from tests.installation import Installation, populate, signed_in

pytestmark = pytest.mark.django_db

LIST = "admin:accounts_apikey_changelist"


@pytest.fixture
def installation() -> Installation:
    return populate()


@pytest.fixture
def client(installation: Installation) -> Client:
    return signed_in(installation.alice)


def action(name: str, key: APIKey) -> str:
    return reverse(f"admin:accounts_apikey_{name}", args=[key.pk])


def confirm(client: Client, name: str, key: APIKey, **fields: Any) -> str:
    """Confirm an action and return the text of the page that comes then."""
    answer = client.post(action(name, key), {"_form_submitted": "on", **fields})
    return client.get(answer.headers["HX-Redirect"]).content.decode()


def accepted(secret: str) -> bool:
    try:
        return bool(acceptance.accept(secret, None, timezone.now()))
    except acceptance.Refused:
        return False


def request(installation: Installation, number: int, client: str, ago: timedelta) -> None:
    """Make the row of a request by the installation's key."""
    first = usage.first_id(timezone.now() - ago)
    row = installation.usage
    Usage.objects.create(
        request_id=type(first)(int=first.int + number),
        key_id=row.key_id,
        user_id=row.user_id,
        organization_id=row.organization_id,
        model="openai/gpt-4o",
        dialect="openai_chat",
        status=200,
        usage_source="provider",
        duration_ms=5,
        client=client,
    )


def test_a_reset_says_before_it_who_used_the_key_in_the_last_week(client: Client, installation: Installation) -> None:
    for number in range(3):
        request(installation, number, "codex", timedelta(minutes=5))
    request(installation, 9, "long-ago", timedelta(days=8))
    text = client.get(action("reset", installation.key)).content.decode()
    assert "codex: 3 requests, last " in text and "long-ago" not in text
    assert "never, as this secret" in text and str(installation.bob) in text
    APIKey.objects.update(last_used_at=timezone.now())
    assert "never, as this secret" not in client.get(action("revoke", installation.key)).content.decode()


def test_a_key_that_nobody_uses_says_so(client: Client, installation: Installation) -> None:
    assert ">nobody<" in client.get(action("reset", installation.key)).content.decode()


def test_a_reset_with_an_overlap_is_seen_and_can_be_ended(client: Client, installation: Installation) -> None:
    former, shown = installation.clear_key, installation.key.display
    text = confirm(client, "reset", installation.key, overlap_s="86400")
    [secret] = re.findall(r"data-key>(sg-[0-9A-Za-z]{36})<", text)
    assert "data-copy" in text and ">rotating<" in re.sub(r"\s*([<>])\s*", r"\1", text)
    assert accepted(secret) and accepted(former)
    page = client.get(reverse("admin:accounts_apikey_change", args=[installation.key.pk])).content.decode()
    assert shown in page and "until " in page
    confirm(client, "end_overlap", installation.key)
    assert accepted(secret) and not accepted(former)
    assert "no former secret" in confirm(client, "end_overlap", installation.key)
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        f"Reset: {shown} is accepted for 86400 s more.",
        "Ended the overlap.",
    ]


@pytest.mark.parametrize("overlap_s", ["", "5", "99999999"])
def test_an_overlap_that_is_not_offered_is_refused(client: Client, installation: Installation, overlap_s: str) -> None:
    answer = client.post(action("reset", installation.key), {"_form_submitted": "on", "overlap_s": overlap_s})
    assert "HX-Redirect" not in answer.headers and accepted(installation.clear_key)


@pytest.mark.parametrize(("days", "kept"), [("90", 90), ("", None)])
def test_the_age_is_set_and_taken_away(client: Client, installation: Installation, days: str, kept: int | None) -> None:
    APIKey.objects.update(rotate_after_days=30)
    confirm(client, "set_age", installation.key, days=days)
    assert APIKey.objects.get().rotate_after_days == kept


def test_an_age_of_a_day_is_refused(client: Client, installation: Installation) -> None:
    client.post(action("set_age", installation.key), {"_form_submitted": "on", "days": "1"})
    assert APIKey.objects.get().rotate_after_days is None


def test_an_organization_bounds_the_age_of_its_keys(client: Client, installation: Installation) -> None:
    organization = installation.bob.personal_organization
    page = reverse("admin:accounts_organization_change", args=[organization.pk])
    memberships = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    client.post(page, {"name": "Bob's", "is_active": "on", "key_rotation_days": "90", **memberships})
    assert Organization.objects.get(pk=organization.pk).key_rotation_days == 90


STATES: dict[str, tuple[Callable[[APIKey], Any], str]] = {
    "live": (lambda key: None, "live"),
    "soon": (lambda key: APIKey.objects.update(expires_at=timezone.now() + timedelta(days=3, hours=1)), "expires in"),
    "rotating": (lambda key: rotation.reset(key, overlap_s=60), "rotating"),
    "expired": (lambda key: APIKey.objects.update(expires_at=timezone.now()), "expired"),
    "revoked": (lambda key: key.revoke(timezone.now()), "revoked"),
    "leaked": (lambda key: key.revoke(timezone.now(), APIKey.LEAKED), "leaked"),
}


@pytest.mark.parametrize("state", STATES)
def test_a_key_s_state_is_shown_and_found(client: Client, installation: Installation, state: str) -> None:
    happen, shown = STATES[state]
    happen(installation.key)
    text = client.get(reverse(LIST), {"state": state}).content.decode()
    assert APIKey.objects.get().display in text
    assert re.search(rf">\s*{shown}", text)
    page = client.get(reverse("admin:accounts_apikey_change", args=[installation.key.pk])).content.decode()
    assert shown in page and "(&#x27;soon" not in page


def test_a_secret_that_waits_is_told_of_and_not_shown(client: Client, installation: Installation) -> None:
    assert installation.key.display not in client.get(reverse(LIST), {"state": "waiting"}).content.decode()
    handover.leave(installation.key, installation.clear_key, expires_at=timezone.now() + timedelta(days=2))
    assert installation.key.display in client.get(reverse(LIST), {"state": "waiting"}).content.decode()
    page = client.get(reverse("admin:accounts_apikey_change", args=[installation.key.pk])).content.decode()
    assert "A new secret waits" in page and installation.clear_key not in page


def test_the_list_takes_as_many_queries_for_many_keys(
    client: Client, installation: Installation, django_assert_max_num_queries: Any
) -> None:
    from accounts import keys

    for _ in range(20):
        rotation.reset(keys.mint(user=installation.bob)[0], overlap_s=60)
    with django_assert_max_num_queries(14):
        client.get(reverse(LIST))


def test_a_leaked_key_that_is_revoked_before_it_is_replaced_stays_dead(
    client: Client, installation: Installation
) -> None:
    installation.key.revoke(timezone.now(), APIKey.LEAKED)
    confirm(client, "revoke", installation.key)
    installation.key.refresh_from_db()
    with pytest.raises(rotation.DeadKey):
        rotation.replace_leaked(installation.key)


@pytest.mark.parametrize("name", ["reset", "end_overlap", "set_age", "revoke"])
def test_whoever_may_only_look_at_keys_changes_none(installation: Installation, name: str) -> None:
    viewer = User.objects.create_user("viewer@example.com", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_apikey"))
    rotation.reset(installation.key, overlap_s=3600)
    before = APIKey.objects.values().get(pk=installation.key.pk), RetiredSecret.objects.values().get()
    answer = signed_in(viewer).post(
        action(name, installation.key), {"_form_submitted": "on", "overlap_s": "0", "days": "9"}
    )
    assert answer.status_code == 403
    assert (APIKey.objects.values().get(pk=installation.key.pk), RetiredSecret.objects.values().get()) == before
