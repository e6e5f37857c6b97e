"""Signing in and out, the second factor, and what stays when Redis is away."""

import re
import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import User
from aperture_site.cache import RedisOrMemory
from tests.aperture_site.pages.scenery import PASSWORD, browser, check, see, send, token_of

pytestmark = pytest.mark.django_db
EMAIL = "ada@example.com"


@pytest.fixture(autouse=True)
def fresh() -> None:
    cache.clear()


@pytest.fixture
def ada() -> User:
    return User.objects.create_user(EMAIL, PASSWORD)


def sign_in(client: Client, password: str = PASSWORD, email: str = EMAIL, **more: Any) -> Any:
    return send(client, "/login", login=email, password=password, **more)


def code(secret: str) -> str:
    return str(format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time())))))


@pytest.mark.usefixtures("ada")
def test_signing_in_leads_to_the_dashboard_and_out_to_the_landing_page() -> None:
    client = browser()
    assert client.get("/dashboard")["Location"] == "/login?next=/dashboard"
    assert sign_in(client, email="ADA@example.com")["Location"] == "/dashboard"
    see(client, "/dashboard")
    assert client.get("/logout").status_code == 200
    assert send(client, "/logout", page="/dashboard")["Location"] == "/"
    assert client.get("/dashboard").status_code == 302


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize(("email", "password"), [(EMAIL, "wrong wrong 1"), ("nobody@example.com", PASSWORD)])
def test_what_does_not_fit_is_refused_alike(email: str, password: str) -> None:
    response = sign_in(browser(), password, email)
    assert response.status_code == 200
    assert "The email address and/or password you specified are not correct." in check(response)


def test_who_is_switched_off_stays_out(ada: User) -> None:
    ada.is_active = False
    ada.save(update_fields=["is_active"])
    client = browser()
    sign_in(client)
    assert client.get("/dashboard").status_code == 302


@pytest.mark.usefixtures("ada")
def test_guessing_ends_after_five_tries_also_with_the_right_password() -> None:
    client = browser()
    for _ in range(5):
        sign_in(client, "wrong wrong 1")
    response = sign_in(client)
    assert "Too many failed login attempts" in response.content.decode()
    assert client.get("/dashboard").status_code == 302


@pytest.mark.usefixtures("ada")
def test_while_redis_is_away_people_sign_in_and_guessing_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    away = RedisOrMemory("redis://127.0.0.1:1/0", {})
    monkeypatch.setattr("django.core.cache.caches._connections.default", away, raising=False)
    assert not away.get("anything")
    client = browser()
    assert sign_in(client)["Location"] == "/dashboard"
    other = browser()
    for _ in range(5):
        sign_in(other, "wrong wrong 1")
    assert "Too many failed login attempts" in sign_in(other).content.decode()


def test_the_cache_counts_by_itself_while_redis_is_away() -> None:
    away = RedisOrMemory("redis://127.0.0.1:1/0", {})
    assert away.add("count", 0, 60)
    assert not away.add("count", 0, 60)
    assert [away.incr("count"), away.incr("count")] == [1, 2]
    away.set("name", "value", 60)
    assert away.get("name") == "value"
    assert away.delete("name")
    before = time.monotonic()
    assert away.get("name", "none") == "none"
    assert time.monotonic() - before < 0.2


@pytest.mark.parametrize("target", ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)"])
@pytest.mark.usefixtures("ada")
def test_nobody_is_sent_elsewhere_after_signing_in(target: str) -> None:
    assert sign_in(browser(), next=target)["Location"] == "/dashboard"


@pytest.mark.usefixtures("ada")
def test_a_forgotten_password_is_set_anew_by_mail() -> None:
    client = browser()
    see(client, "/password/reset")
    assert send(client, "/password/reset", email=EMAIL)["Location"] == "/password/reset/sent"
    see(client, "/password/reset/sent")
    link = re.search(r"https?://[^/]+(/password/reset/\S+)", str(mail.outbox[0].body))
    assert link is not None
    form = client.get(link[1])["Location"]
    see(client, form)
    new = "another winter evening 8"
    assert send(client, form, password1=new, password2=new)["Location"] == "/password/reset/done"
    see(client, "/password/reset/done")
    assert sign_in(browser(), new)["Location"] == "/dashboard"
    assert sign_in(browser()).status_code == 200


def test_whom_an_operator_made_without_a_password_sets_the_first_one_by_mail() -> None:
    User.objects.create_user("bo@example.com")
    send(browser(), "/password/reset", email="bo@example.com")
    assert mail.outbox[0].to == ["bo@example.com"]
    assert "/password/reset/" in str(mail.outbox[0].body)


def test_a_reset_does_not_tell_who_has_an_account() -> None:
    assert send(browser(), "/password/reset", email="nobody@example.com")["Location"] == "/password/reset/sent"


def test_the_pages_of_the_own_account(ada: User) -> None:
    client = browser(ada)
    for path in ("/settings/email", "/settings/password", "/settings/security", "/logout", "/login/inactive"):
        see(client, path)
    assert EMAIL in see(client, "/settings/email")


@pytest.mark.usefixtures("ada")
def test_other_browsers_are_signed_out() -> None:
    mine, other = browser(), browser()
    sign_in(mine)
    sign_in(other)
    assert "this one" in see(mine, "/settings/sessions")
    send(mine, "/settings/sessions")
    assert other.get("/dashboard").status_code == 302
    assert mine.get("/dashboard").status_code == 200


def test_a_second_factor_is_asked_for_and_kept_encrypted(ada: User) -> None:
    client = browser()
    sign_in(client)
    again = client.get("/settings/security/app")["Location"]
    see(client, again)
    assert send(client, again, password=PASSWORD)["Location"] == "/settings/security/app"
    page = see(client, "/settings/security/app")
    found = re.search(r'id="authenticator_secret"[^>]*value="(\w+)"', page)
    assert found is not None
    secret = found[1]
    # Each time that the page is opened it has another secret.
    fields = {"code": code(secret), "csrfmiddlewaretoken": token_of(page)}
    response = client.post("/settings/security/app", fields)
    assert response["Location"] == "/settings/security/codes"
    codes = re.findall(r"\b\d{8}\b", see(client, "/settings/security/codes"))
    assert len(codes) == 10
    see(client, "/settings/security")
    see(client, "/settings/security/codes/new")
    see(client, "/settings/security/app/remove")
    assert codes[0] in client.get("/settings/security/codes/download").content.decode()
    assert secret not in str(list(Authenticator.objects.values_list("data", flat=True)))
    other = browser()
    assert sign_in(other)["Location"] == "/login/second-factor"
    assert other.get("/dashboard").status_code == 302
    see(other, "/login/second-factor")
    assert b"Incorrect code" in send(other, "/login/second-factor", code="000000").content
    assert send(other, "/login/second-factor", code=codes[0])["Location"] == "/dashboard"
    third = browser()
    sign_in(third)
    assert b"Incorrect code" in send(third, "/login/second-factor", code=codes[0]).content
    assert User.objects.get() == ada


def test_the_admins_own_sign_in_stays_and_does_not_pass_by_a_second_factor() -> None:
    operator = User.objects.create_superuser("op@example.com", PASSWORD)
    fields = {"username": "op@example.com", "password": PASSWORD}
    page = reverse("admin:login")
    assert send(browser(), page, **fields).status_code == 302
    Authenticator.objects.create(user=operator, type="totp", data={})
    assert b"You have a second factor" in send(browser(), page, **fields).content


def test_an_operator_sees_the_way_to_the_admin(ada: User) -> None:
    assert reverse("admin:index") not in see(browser(ada), "/dashboard")
    ada.is_staff = True
    ada.save(update_fields=["is_staff"])
    assert reverse("admin:index") in see(browser(ada), "/dashboard")
    assert "Content-Security-Policy" not in browser(ada).get(reverse("admin:login"))
