"""The admin's pages of leaks."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import keys
from accounts.admin import leak as admin
from accounts.leaks import aftermath, revocation
from accounts.models import APIKey, Leak, User
from tests.installation import Installation, populate, signed_in

pytestmark = pytest.mark.django_db

LIST = "admin:accounts_leak_changelist"
FORM = "admin:accounts_leak_report"
PLACE = "https://github.com/ada/shop/blob/1/a.py"


@pytest.fixture
def installation() -> Installation:
    return populate()


@pytest.fixture
def client(installation: Installation) -> Client:
    return signed_in(installation.alice)


def page(client: Client, name: str, **query: str) -> str:
    answer = client.get(reverse(name), query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def paste(client: Client, text: str, url: str = PLACE) -> Any:
    return client.post(reverse(FORM), {"text": text, "url": url})


def sealed(answer: Any) -> str:
    found = re.search(r'name="confirmed" value="([^"]+)"', answer.content.decode())
    assert found is not None
    return found[1]


def test_a_pasted_text_is_shown_for_what_it_holds_and_revoked_once_confirmed(
    client: Client, installation: Installation
) -> None:
    elsewhere = keys.generate()
    text = f"curl -H 'Authorization: Bearer {installation.clear_key}' # {elsewhere} sg-0123456789abcdef0"
    asked = paste(client, text)
    shown = asked.content.decode()
    assert "live: will be revoked and replaced" in shown
    assert "no key of this installation" in shown
    assert installation.bob.email in shown
    assert "no-store" in asked.headers["Cache-Control"]
    assert (APIKey.objects.get().revoked_at, Leak.objects.count()) == (None, 0)
    for key in (installation.clear_key, elsewhere):
        assert key not in shown
    done = client.post(reverse(FORM), {"confirmed": sealed(asked)}, follow=True).content.decode()
    assert "1 revoked; the replacement and the mail to the owner follow. 0 were dead already, 1 were never" in done
    assert APIKey.objects.get().revoked_for == APIKey.LEAKED
    leak = Leak.objects.get(key=installation.key)
    assert (leak.reporter, leak.channel, leak.url, leak.source) == (installation.alice, Leak.ADMIN, PLACE, "report")
    assert "alice@example.com" in done
    assert not any(installation.clear_key in str(session.get_decoded()) for session in Session.objects.all())
    with connection.cursor() as cursor:
        cursor.execute("SELECT accounts_leak::text FROM accounts_leak")
        assert installation.clear_key[5:30] not in str(cursor.fetchall())


def test_a_confirmation_that_comes_twice_changes_nothing_more(client: Client, installation: Installation) -> None:
    text = sealed(paste(client, installation.clear_key))
    for _ in range(2):
        client.post(reverse(FORM), {"confirmed": text})
    assert Leak.objects.count() == 1
    assert aftermath.sweep() == 1
    client.post(reverse(FORM), {"confirmed": text})
    assert APIKey.objects.get().revoked_at is None


def test_a_text_without_a_key_is_refused(client: Client, installation: Installation) -> None:
    wrong = installation.clear_key[:-1] + ("A" if installation.clear_key[-1] != "A" else "B")
    for text in ("", "nothing", wrong, "sg-0123456789abcdef0"):
        assert 'name="confirmed"' not in paste(client, text).content.decode()
    assert "holds no API key" in paste(client, wrong).content.decode()
    assert "More than 500 keys" in paste(client, " ".join(keys.generate() for _ in range(501))).content.decode()


def test_a_confirmation_that_was_changed_or_is_old_revokes_nothing(
    client: Client, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = sealed(paste(client, installation.clear_key))
    changed = client.post(reverse(FORM), {"confirmed": text[:-2] + "xx"}, follow=True)
    assert "too old" in changed.content.decode()
    monkeypatch.setattr(admin, "CONFIRMED_WITHIN_S", -1)
    client.post(reverse(FORM), {"confirmed": text})
    assert (APIKey.objects.get().revoked_at, Leak.objects.count()) == (None, 0)


def test_only_whoever_may_revoke_keys_may_report_them(installation: Installation) -> None:
    carol = User.objects.create_user("carol@example.com", is_staff=True)
    carol.user_permissions.set(Permission.objects.filter(codename="view_leak"))
    client = signed_in(carol)
    assert "Report a leaked key" not in page(client, LIST)
    assert paste(client, installation.clear_key).status_code == 403
    forged = revocation.suspect(installation.clear_key)
    assert forged is not None
    assert client.post(reverse(FORM), {"confirmed": admin.sealed([forged])}).status_code == 403
    assert APIKey.objects.get().revoked_at is None


def test_a_stranger_is_sent_to_sign_in(installation: Installation) -> None:
    assert "login" in Client().get(reverse(FORM)).headers["location"]


def test_the_list_tells_keys_from_false_positives_and_what_was_replaced(
    client: Client, installation: Installation
) -> None:
    dead, dead_key = keys.mint(user=installation.bob, name="old")
    dead.revoke(timezone.now())
    elsewhere = keys.generate()
    for key in (installation.clear_key, dead_key, elsewhere):
        found = revocation.suspect(key, f"{PLACE}?<script>", "commit")
        assert found is not None
        revocation.report([found], Leak.GITHUB, timezone.now())
    listed = page(client, LIST)
    assert "?&lt;script&gt;" in listed.replace("<wbr>", "")
    assert re.search(r">\s*waits\s*<", listed)
    aftermath.sweep()
    assert re.search(r">\s*yes\s*<", page(client, LIST))
    shown = {kind: page(client, LIST, kind=kind) for kind in ("live", "dead", "false")}
    for kind, key in zip(shown, (installation.clear_key, dead_key, elsewhere), strict=True):
        assert [name for name, text in shown.items() if keys.mask(key) in text] == [kind]


def test_a_leak_is_seen_and_neither_changed_nor_deleted(client: Client, installation: Installation) -> None:
    found = revocation.suspect(installation.clear_key, PLACE, "commit")
    assert found is not None
    revocation.report([found], Leak.GITHUB, timezone.now())
    leak = Leak.objects.get()
    seen = client.get(reverse("admin:accounts_leak_change", args=[leak.pk]))
    assert PLACE in seen.content.decode().replace("<wbr>", "")
    assert client.post(reverse("admin:accounts_leak_delete", args=[leak.pk])).status_code == 403
    assert client.get(reverse("admin:accounts_leak_add")).status_code == 403
