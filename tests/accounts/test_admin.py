"""The admin's pages of who."""

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import keys
from accounts.models import APIKey, Grant, Membership, Organization, User
from tests.installation import Installation, populate, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def installation() -> Installation:
    return populate()


@pytest.fixture
def client(installation: Installation) -> Client:
    return signed_in(installation.alice)


def new_key(user: User, **fields: Any) -> dict[str, Any]:
    empty = {"organization": "", "model_globs": "", "labels": "", "ip_allowlist": "", "scopes": ""}
    return {"user": user.pk, "name": "laptop", "expires_at_0": "", "expires_at_1": "", **empty, **fields}


NO_FORMER_SECRETS = {"retired-TOTAL_FORMS": 0, "retired-INITIAL_FORMS": 0}


def errors(answer: Any) -> dict[str, list[str]]:
    return dict(answer.context["adminform"].form.errors)


def test_a_new_key_is_shown_once_and_kept_nowhere(client: Client, installation: Installation) -> None:
    fields = new_key(
        installation.bob, model_globs="openai/*\nanthropic/*", labels="project=search", ip_allowlist="10.0.0.1"
    )
    answer = client.post(reverse("admin:accounts_apikey_add"), fields, follow=True)
    text = answer.content.decode()
    row = APIKey.objects.latest("pk")
    key = text.split("data-key>", 1)[1].split("<", 1)[0]
    assert keys.well_formed(key)
    assert bytes(row.digest) == keys.digests(key)[0]
    assert (row.organization, row.user) == (installation.bob.personal_organization, installation.bob)
    assert (row.model_globs, row.labels, row.ip_allowlist) == (
        ["openai/*", "anthropic/*"],
        {"project": "search"},
        ["10.0.0.1/32"],
    )
    for page in (reverse("admin:accounts_apikey_changelist"), reverse("admin:accounts_apikey_change", args=[row.pk])):
        assert key not in client.get(page).content.decode()
    assert not any(key in str(session.get_decoded()) for session in Session.objects.all())
    assert not LogEntry.objects.filter(object_repr__contains=key[5:30]).exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT accounts_apikey::text FROM accounts_apikey")
        assert key not in str(cursor.fetchall())


def test_a_key_goes_to_an_organization_of_which_the_user_is_a_member(
    client: Client, installation: Installation
) -> None:
    team = Organization.objects.create(name="Team")
    page = reverse("admin:accounts_apikey_add")
    refused = client.post(page, new_key(installation.bob, organization=team.pk))
    assert "is not a member" in errors(refused)["organization"][0]
    Membership.objects.create(organization=team, user=installation.bob)
    client.post(page, new_key(installation.bob, organization=team.pk))
    assert APIKey.objects.latest("pk").organization == team


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("labels", "search", "is not a label"),
        ("ip_allowlist", "10.0.0.300", "is not a network"),
        ("model_globs", "m" * 257, "256"),
    ],
)
def test_a_bad_bound_is_refused_by_name(
    client: Client, installation: Installation, field: str, text: str, message: str
) -> None:
    refused = client.post(reverse("admin:accounts_apikey_add"), new_key(installation.bob, **{field: text}))
    assert message in errors(refused)[field][0]
    assert APIKey.objects.count() == 1


def test_a_key_s_owner_stays_whatever_is_posted(client: Client, installation: Installation) -> None:
    page = reverse("admin:accounts_apikey_change", args=[installation.key.pk])
    client.post(page, new_key(installation.alice, name="renamed") | NO_FORMER_SECRETS)
    row = APIKey.objects.get()
    assert (row.name, row.user) == ("renamed", installation.bob)
    assert bytes(row.digest) == keys.digests(installation.clear_key)[0]


def test_a_key_is_revoked_after_a_confirmation_and_never_deleted(client: Client, installation: Installation) -> None:
    page = reverse("admin:accounts_apikey_revoke", args=[installation.key.pk])
    assert "Revoke this key?" in client.get(page).content.decode()
    assert APIKey.objects.get().revoked_at is None
    assert client.post(page, {"_form_submitted": "on"}).headers["HX-Redirect"]
    revoked_at = APIKey.objects.get().revoked_at
    assert revoked_at is not None
    client.post(page, {"_form_submitted": "on"})
    assert APIKey.objects.get().revoked_at == revoked_at
    assert client.post(reverse("admin:accounts_apikey_delete", args=[installation.key.pk])).status_code == 403
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Revoked."]


def test_a_key_is_reset_after_a_confirmation_and_the_new_one_is_shown_once(
    client: Client, installation: Installation
) -> None:
    page = reverse("admin:accounts_apikey_reset", args=[installation.key.pk])
    assert "Reset this key?" in client.get(page).content.decode()
    assert bytes(APIKey.objects.get().digest) == keys.digests(installation.clear_key)[0]
    shown_at = client.post(page, {"_form_submitted": "on", "overlap_s": "0"}).headers["HX-Redirect"]
    found = re.search(r"data-key>(sg-[0-9A-Za-z]{36})<", client.get(shown_at).content.decode())
    assert found is not None
    row = APIKey.objects.get()
    assert bytes(row.digest) == keys.digests(found[1])[0]
    assert (row.display, row.name, row.model_globs) == (keys.mask(found[1]), "laptop", ["openai/*"])
    assert found[1] not in client.get(shown_at).content.decode()
    assert [entry.change_message for entry in LogEntry.objects.all()] == [
        f"Reset: {keys.mask(installation.clear_key)} is refused."
    ]


def test_a_revoked_key_is_not_reset(client: Client, installation: Installation) -> None:
    installation.key.revoke(timezone.now())
    page = reverse("admin:accounts_apikey_reset", args=[installation.key.pk])
    client.post(page, {"_form_submitted": "on", "overlap_s": "0"})
    assert bytes(APIKey.objects.get().digest) == keys.digests(installation.clear_key)[0]


@pytest.mark.parametrize("state", ["live", "expired", "revoked"])
def test_keys_are_filtered_by_state(client: Client, installation: Installation, state: str) -> None:
    text = client.get(reverse("admin:accounts_apikey_changelist"), {"state": state}).content.decode()
    assert (installation.key.display in text) == (state == "live")


@pytest.mark.parametrize(("change", "shown"), [("leaves", "left"), ("is switched off", "owner off")])
def test_a_key_that_its_owner_s_state_closes_is_not_among_the_live(
    client: Client, installation: Installation, change: str, shown: str
) -> None:
    team = Organization.objects.create(name="Team")
    key, _ = keys.mint(user=installation.bob, organization=team, name="of the team")
    page = reverse("admin:accounts_apikey_changelist")
    if change == "leaves":
        assert not Membership.objects.filter(user=installation.bob, organization=team).exists()
    else:
        Membership.objects.create(user=installation.bob, organization=team)
        assert key.display in client.get(page, {"state": "live"}).content.decode()
        User.objects.filter(pk=installation.bob.pk).update(is_active=False)
    assert key.display not in client.get(page, {"state": "live"}).content.decode()
    listed = client.get(page, {"state": "off"}).content.decode()
    assert key.display in listed
    assert f">{shown}<" in re.sub(r"\s*([<>])\s*", r"\1", listed)


def test_a_new_user_gets_a_password_and_its_own_organization(client: Client) -> None:
    fields = {
        "email": "Dora@Example.com",
        "usable_password": "true",
        "password1": "long enough 1",
        "password2": "long enough 1",
    }
    client.post(reverse("admin:accounts_user_add"), fields)
    dora = User.objects.get(email="dora@example.com")
    assert dora.check_password("long enough 1")
    assert dora.personal_organization.name == "dora@example.com"
    assert Membership.objects.get(user=dora).role == Membership.OWNER


def test_an_e_mail_in_another_case_is_the_same_user(client: Client) -> None:
    fields = {"email": "BOB@example.com", "usable_password": "false"}
    refused = client.post(reverse("admin:accounts_user_add"), fields)
    assert refused.status_code == 200
    assert User.objects.filter(email__iexact="bob@example.com").count() == 1


def test_a_grant_is_written_one_subject_and_one_glob_to_a_line(client: Client) -> None:
    fields = {
        "name": "research",
        "enabled": "on",
        "subjects": "group:research\nuser:bob@example.com",
        "role": "user",
        "model_globs": "openai/*, deepseek/**",
        "quotas": "",
        "hooks": "[]",
        "add_headers": "x-team: red",
    }
    client.post(reverse("admin:accounts_grant_add"), fields)
    grant = Grant.objects.latest("pk")
    assert grant.subjects == ["group:research", "user:bob@example.com"]
    assert (grant.model_globs, grant.add_headers) == (["openai/*", "deepseek/**"], {"x-team": "red"})
    refused = client.post(reverse("admin:accounts_grant_add"), {**fields, "subjects": "bob@example.com"})
    assert "is not a subject" in errors(refused)["subjects"][0]


def test_users_and_organizations_are_switched_off_not_deleted(client: Client, installation: Installation) -> None:
    for row in (installation.bob, installation.bob.personal_organization):
        name = row._meta.model_name
        assert client.post(reverse(f"admin:accounts_{name}_delete", args=[row.pk])).status_code == 403
    assert User.objects.filter(pk=installation.bob.pk).exists()


def test_staff_that_edits_users_makes_nobody_an_operator_and_takes_no_operator_over(installation: Installation) -> None:
    carol = User.objects.create_user("carol@example.com", is_staff=True)
    carol.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user"]))
    client = signed_in(carol)
    memberships = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    for user in (carol, installation.bob):
        page = reverse("admin:accounts_user_change", args=[user.pk])
        raised = {"email": user.email, "name": "Changed", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
        client.post(page, {**raised, **memberships})
        user.refresh_from_db()
        assert (user.name, user.is_superuser) == ("Changed", False)
    password = {"password1": "taken over 1234", "password2": "taken over 1234", "usable_password": "true"}
    taken = client.post(reverse("admin:auth_user_password_change", args=[installation.alice.pk]), password)
    assert taken.status_code == 403
    installation.alice.refresh_from_db()
    assert installation.alice.check_password("alice's long password")


def test_people_sign_in_with_their_e_mail() -> None:
    User.objects.create_superuser("ops@example.com", "a long password 1")
    answer = Client().post(
        reverse("admin:login"),
        {"username": "Ops@example.com".lower(), "password": "a long password 1", "next": "/admin/"},
    )
    assert answer.headers["location"] == "/admin/"
