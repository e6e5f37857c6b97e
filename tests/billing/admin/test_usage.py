"""The admin's page of usage."""

import uuid

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import Usage
from tests.installation import Installation, populate, signed_in

pytestmark = pytest.mark.django_db
PAGE = "admin:billing_usage_changelist"
# A request of 2026-11-20.
LATE = uuid.UUID("01a1f9de-a2e0-7a34-bc6a-d128165c3538")


@pytest.fixture
def installation() -> Installation:
    it = populate()
    Usage.objects.create(
        request_id=LATE,
        key_id=999,
        user_id=999,
        organization_id=999,
        model="deepseek/chat",
        dialect="openai_chat",
        status=429,
        error_code="rate_limit_exceeded",
        usage_source="none",
        duration_ms=2,
    )
    return it


@pytest.fixture
def client(installation: Installation) -> Client:
    return signed_in(installation.alice)


def found(client: Client, **query: str) -> set[str]:
    return {row.model for row in client.get(reverse(PAGE), query).context["cl"].result_list}


BOTH = {"openai/gpt-4o", "deepseek/chat"}


@pytest.mark.parametrize(
    ("query", "models"),
    [
        ({}, BOTH),
        ({"model": "OPENAI/"}, {"openai/gpt-4o"}),
        ({"model": "openai\x00"}, {"openai/gpt-4o"}),
        ({"key": "lap\x00top"}, {"openai/gpt-4o"}),
        ({"key": "laptop"}, {"openai/gpt-4o"}),
        ({"key": "bob@example.com"}, {"openai/gpt-4o"}),
        ({"key": "999"}, {"deepseek/chat"}),
        ({"key": "9" * 30}, set()),
        ({"outcome": "2"}, {"openai/gpt-4o"}),
        ({"outcome": "4"}, {"deepseek/chat"}),
        ({"outcome": "429"}, {"deepseek/chat"}),
        ({"outcome": "5"}, set()),
        ({"created_at_from_0": "2026-11-20", "created_at_from_1": "00:00:00"}, {"deepseek/chat"}),
        ({"created_at_from_0": "2099-01-01", "created_at_from_1": "00:00:00"}, set()),
        ({"source": "none"}, {"deepseek/chat"}),
        ({"q": str(LATE)}, {"deepseek/chat"}),
        ({"q": "openai"}, {"openai/gpt-4o"}),
    ],
)
def test_usage_is_found_by_what_people_know(client: Client, query: dict[str, str], models: set[str]) -> None:
    assert found(client, **query) == models


def test_a_row_shows_names_dollars_and_seconds(client: Client, installation: Installation) -> None:
    text = client.get(reverse(PAGE)).content.decode()
    for shown in (
        "bob@example.com",
        installation.key.display,
        "$0.002700",
        "0.84\N{NO-BREAK SPACE}s",
        "429 rate_limit_exceeded",
        "key 999",
    ):
        assert shown in text


def test_the_table_is_never_counted(client: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        client.get(reverse(PAGE))
    assert not [query for query in queries if "COUNT(" in query["sql"] and "billing_usage" in query["sql"]]
