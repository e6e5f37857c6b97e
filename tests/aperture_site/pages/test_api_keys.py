"""The page of keys: who sees which, and that a secret is shown once."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from accounts import acceptance, handover, keys, rotation
from accounts.models import APIKey, User
from tests.aperture_site.pages.scenery import KEY, browser, check, see, send
from tests.billing.api_scenery import Acme, found_acme

pytestmark = pytest.mark.django_db
PAGE = "/settings/api-keys"


@pytest.fixture
def acme() -> Acme:
    return found_acme()


def minted(user: User, acme: Acme, name: str, **about: Any) -> tuple[APIKey, str]:
    return keys.mint(user=user, organization=acme.organization, name=name, **about)


def is_accepted(secret: str) -> bool:
    try:
        acceptance.accept(secret, None, timezone.now())
    except acceptance.Refused:
        return False
    return True


def test_somebody_without_keys_is_told_what_to_do(acme: Acme) -> None:
    text = see(browser(acme.charlie), PAGE)
    assert "No keys yet" in text
    assert f'href="{PAGE}/new"' in text


def test_a_key_is_made_and_shown_once(acme: Acme) -> None:
    client = browser(acme.charlie)
    see(client, f"{PAGE}/new")
    fields = {"name": "laptop", "model_globs": "openai/*\nanthropic/*", "ip_allowlist": "203.0.113.7", "expires": "30"}
    response = send(client, f"{PAGE}/new", **fields)
    assert response["Location"] == PAGE
    shown = client.get(PAGE)
    (secret,) = KEY.findall(check(shown))
    assert "no-store" in shown["Cache-Control"]
    assert not KEY.search(see(client, PAGE))
    key = APIKey.objects.get()
    assert bytes(key.digest) in keys.digests(secret)
    assert (key.name, key.model_globs, key.ip_allowlist) == ("laptop", ["openai/*", "anthropic/*"], ["203.0.113.7/32"])
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - timezone.now() < timedelta(days=31)
    assert LogEntry.objects.get().user == acme.charlie


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [({"name": ""}, "required"), ({"ip_allowlist": "here"}, "here"), ({"expires": "9"}, "valid")],
)
def test_what_is_wrong_with_a_new_key_is_said(acme: Acme, wrong: dict[str, str], complaint: str) -> None:
    response = send(browser(acme.charlie), f"{PAGE}/new", **{"name": "laptop", "expires": ""} | wrong)
    assert response.status_code == 422
    assert complaint in check(response)
    assert not APIKey.objects.exists()


def test_a_name_is_text_and_not_markup(acme: Acme) -> None:
    client = browser(acme.charlie)
    send(client, f"{PAGE}/new", name="<script>alert(1)</script>", expires="")
    assert "&lt;script&gt;" in see(client, PAGE)


def test_the_owner_sees_all_keys_of_the_organization_and_a_member_the_own_ones(acme: Acme) -> None:
    minted(acme.alice, acme, "of-alice")
    minted(acme.bob, acme, "of-bob")
    place = f"{PAGE}?organization={acme.id}"
    owner, member = see(browser(acme.alice), place), see(browser(acme.bob), place)
    assert "of-alice" in owner
    assert "of-bob" in owner
    assert "of-bob" in member
    assert "of-alice" not in member
    see(browser(acme.charlie), place, 404)
    assert "of-alice" not in see(browser(acme.charlie), PAGE)


@pytest.mark.parametrize("action", ["reset", "revoke", "end-overlap", "collect"])
def test_what_is_not_yours_is_not_there(acme: Acme, action: str) -> None:
    key, secret = minted(acme.alice, acme, "of-alice")
    address = f"{PAGE}/{key.pk}/{action}"
    for user in (acme.bob, acme.charlie, acme.dora):
        client = browser(user)
        for place in ("", f"?organization={acme.id}"):
            response = send(client, address + place, page="/settings/api-keys/new", overlap_s="0", display=key.display)
            assert response.status_code == 404
            check(response)
    assert browser().post(address).status_code == 403
    key.refresh_from_db()
    assert key.revoked_at is None
    assert is_accepted(secret)


def test_a_reset_says_what_it_breaks_then_shows_the_new_secret_and_kills_the_old_one(acme: Acme) -> None:
    key, old = minted(acme.bob, acme, "job")
    client = browser(acme.alice)
    place = f"{PAGE}/{key.pk}/reset?organization={acme.id}"
    assert "Nobody used it" in see(client, place)
    response = send(client, place, overlap_s="0", display=key.display)
    assert response["Location"] == f"{PAGE}?organization={acme.id}"
    (new,) = KEY.findall(see(client, response["Location"]))
    assert is_accepted(new)
    assert not is_accepted(old)


def test_a_reset_may_leave_time_which_can_be_ended(acme: Acme) -> None:
    key, old = keys.mint(user=acme.charlie, name="job")
    client = browser(acme.charlie)
    send(client, f"{PAGE}/{key.pk}/reset", overlap_s="3600", display=key.display)
    text = see(client, PAGE)
    assert "rotating" in text
    assert "End overlap" in text
    assert is_accepted(old)
    send(client, f"{PAGE}/{key.pk}/end-overlap", page=PAGE)
    assert not is_accepted(old)


def test_a_second_reset_from_a_page_that_is_old_changes_nothing(acme: Acme) -> None:
    key, _ = keys.mint(user=acme.charlie, name="job")
    before = key.display
    current = rotation.reset(key)
    client = browser(acme.charlie)
    send(client, f"{PAGE}/{key.pk}/reset", overlap_s="0", display=before)
    assert "it was reset since you looked" in see(client, PAGE)
    assert is_accepted(current)


def test_a_revoked_key_is_refused_and_listed_among_those_that_ended(acme: Acme) -> None:
    key, secret = keys.mint(user=acme.charlie, name="job")
    client = browser(acme.charlie)
    see(client, f"{PAGE}/{key.pk}/revoke")
    send(client, f"{PAGE}/{key.pk}/revoke")
    assert not is_accepted(secret)
    see(client, PAGE)
    assert key.display not in see(client, PAGE)
    assert "revoked" in see(client, f"{PAGE}?all=1")
    send(client, f"{PAGE}/{key.pk}/reset", overlap_s="0", display=key.display)
    assert "is revoked, for good" in see(client, PAGE)


def test_a_secret_that_waits_is_fetched_once(acme: Acme) -> None:
    key, _ = keys.mint(user=acme.charlie, name="job")
    secret = rotation.reset(key)
    handover.leave(key, secret, expires_at=timezone.now() + timedelta(days=1))
    client = browser(acme.charlie)
    assert "Show the new secret" in see(client, PAGE)
    send(client, f"{PAGE}/{key.pk}/collect", page=PAGE)
    assert KEY.findall(see(client, PAGE)) == [secret]
    send(client, f"{PAGE}/{key.pk}/collect", page="/settings/api-keys/new")
    text = see(client, PAGE)
    assert "No secret waits" in text
    assert not KEY.search(text)


def test_changes_are_posted_with_a_token_only(acme: Acme) -> None:
    key, secret = keys.mint(user=acme.charlie, name="job")
    client = browser(acme.charlie)
    for action in ("reset", "revoke", "end-overlap", "collect"):
        assert client.post(f"{PAGE}/{key.pk}/{action}", {"overlap_s": "0", "display": key.display}).status_code == 403
    assert client.get(f"{PAGE}/{key.pk}/collect").status_code == 405
    assert is_accepted(secret)


def test_many_keys_cost_as_many_queries_as_one(acme: Acme, django_assert_max_num_queries: Any) -> None:
    for n in range(30):
        keys.mint(user=acme.charlie, name=f"job-{n}")
    client = browser(acme.charlie)
    with django_assert_max_num_queries(10):
        text = client.get(PAGE).content.decode()
    assert "job-29" in text
