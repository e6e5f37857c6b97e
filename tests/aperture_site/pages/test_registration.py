"""From the landing page to a key that is accepted; and who may not register."""

import re
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts import acceptance, keys
from accounts.models import APIKey, Grant, Organization, User
from aperture_site import first_start
from tests.aperture_site.pages.scenery import KEY, PASSWORD, browser, check, see, send

pytestmark = pytest.mark.django_db
EMAIL = "ada@example.com"


@pytest.fixture(autouse=True)
def fresh(settings: Any) -> None:
    cache.clear()
    settings.REGISTRATION = "open"


def register(client: Client, email: str = EMAIL, password: str = PASSWORD) -> Any:
    return send(client, "/register", email=email, password1=password)


def test_who_registers_gets_a_key_that_is_shown_once_and_accepted(settings: Any) -> None:
    first_start.make_demo("http://127.0.0.1:1/demo", "http://127.0.0.1:1")
    client = browser()
    assert 'href="/register"' in see(client, "/")
    response = register(client)
    assert (response.status_code, response["Location"]) == (302, "/welcome")
    welcome = client.get("/welcome")
    text = check(welcome)
    (secret,) = set(KEY.findall(text))
    assert "no-store" in welcome["Cache-Control"]
    assert f"Authorization: Bearer {secret}" in text.replace("&#x27;", "'")
    assert f"{settings.PUBLIC_URL}/api/v1/chat/completions" in text
    assert first_start.DEMO_MODEL in text
    key = APIKey.objects.get(user__email=EMAIL)
    assert bytes(key.digest) in keys.digests(secret)
    assert key.organization == key.user.personal_organization
    assert client.get("/welcome")["Location"] == "/dashboard"
    assert not KEY.search(see(client, "/dashboard"))
    assert not KEY.search(see(client, "/settings/api-keys"))


def test_the_first_key_is_made_once() -> None:
    client = browser()
    register(client)
    client.get("/welcome")
    send(client, "/welcome/key", page="/settings/password")
    assert APIKey.objects.filter(user__email=EMAIL).count() == 1


def test_an_operators_new_user_gets_the_first_key_by_a_button() -> None:
    user = User.objects.create_user("bo@example.com", PASSWORD)
    client = browser(user)
    assert "Make my first key" in see(client, "/dashboard")
    assert send(client, "/welcome/key", page="/dashboard")["Location"] == "/welcome"
    assert len(set(KEY.findall(see(client, "/welcome")))) == 1


def test_registration_makes_a_user_with_its_own_organization() -> None:
    register(browser(), "Ada@Example.COM")
    user = User.objects.get()
    assert user.email == EMAIL
    assert user.check_password(PASSWORD)
    assert Organization.objects.get().personal_user == user
    assert not user.is_staff


@pytest.mark.parametrize(
    ("email", "password", "complaint"),
    [
        ("nobody", PASSWORD, "valid email"),
        ("ada@example.com", "short", "too short"),
        ("ada@example.com", "1234567890", "too common"),
        ("taken@example.com", PASSWORD, "already registered"),
        ("TAKEN@example.com", PASSWORD, "already registered"),
        ("boss@example.com", PASSWORD, "has given this address rights"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(email: str, password: str, complaint: str) -> None:
    User.objects.create_user("taken@example.com")
    Grant.objects.create(subjects=["user:boss@example.com"], model_globs=["**"])
    response = register(browser(), email, password)
    assert response.status_code == 200
    text = check(response)
    assert complaint in re.sub(r"\s+", " ", text)
    assert 'aria-invalid="true"' in text
    assert not APIKey.objects.exists()


def test_closed_registration_makes_nobody(settings: Any) -> None:
    settings.REGISTRATION = "closed"
    client = browser()
    assert "/register" not in see(client, "/")
    assert "/register" not in see(client, "/login")
    assert "Registration is closed" in see(client, "/register")
    token = client.cookies["csrftoken"].value
    response = client.post("/register", {"email": EMAIL, "password1": PASSWORD, "csrfmiddlewaretoken": token})
    assert b"Registration is closed" in response.content
    assert not User.objects.exists()


def test_registration_by_domain_takes_that_domain_and_proves_the_address_first(settings: Any) -> None:
    settings.REGISTRATION, settings.REGISTRATION_DOMAINS = "domains", ["example.com"]
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    client = browser()
    assert b"Only addresses at example.com" in register(client, "eve@example.org").content
    assert b"Only addresses at example.com" in register(client, "eve@evil-example.com").content
    assert register(client)["Location"] == "/email/sent"
    assert "/settings/api-keys" not in see(client, "/email/sent")
    assert not APIKey.objects.exists()
    assert client.get("/dashboard").status_code == 302
    link = re.search(r"https?://[^/]+(/email/confirm/\S+)", str(mail.outbox[0].body))
    assert link is not None
    see(client, link[1])
    send(client, link[1])
    response = send(client, "/login", login=EMAIL, password=PASSWORD)
    assert response["Location"] == "/dashboard"
    assert "Make my first key" in see(client, "/dashboard")


def test_a_mail_server_that_fails_does_not_stop_a_registration(settings: Any) -> None:
    settings.EMAIL_BACKEND = "tests.aperture_site.pages.failing_mail.Backend"
    assert register(browser())["Location"] == "/welcome"


def test_a_form_without_its_token_is_refused() -> None:
    response = browser().post("/register", {"email": EMAIL, "password1": PASSWORD})
    assert response.status_code == 403
    check(response)
    assert not User.objects.exists()


def test_registrations_from_one_address_are_limited() -> None:
    client = browser()
    statuses = [register(client, f"nobody-{n}").status_code for n in range(21)]
    assert (statuses[19], statuses[20]) == (200, 429)


def test_the_shown_key_is_accepted() -> None:
    client = browser()
    register(client)
    secret = KEY.findall(see(client, "/welcome"))[0]
    accepted = acceptance.accept(secret, None, timezone.now())
    assert accepted.user_id == User.objects.get().pk
    answer = Client().get("/api/billing/balance", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200
