"""Newer price data is fetched, judged, kept and written: over real sockets, read by the package in its child."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from aperture_site import env
from aperture_site.celery import app
from catalog import price_data, price_list, proposals, seeding
from catalog.models import Model, Price, PriceData, Proposal, Provider, Target
from gateway import price_refresh
from gateway.models import Job
from gateway.tasks import refresh_prices
from tests import price_feed
from tests.local_server import Asked, LocalServer, Reply, serving
from tests.races import at_once

NOW = timezone.now()
DAY = timedelta(days=1)
ETAG = '"1"'


class Publisher:
    """A server of price data, which a test may change: gpt-4o costs a fifth less than the installed data says."""

    def __init__(self) -> None:
        self.feed = price_feed.published()
        self.rates = price_feed.model(self.feed, "openai", "gpt-4o")["prices"]
        self.rates |= {"input_mtok": 2, "output_mtok": 8}
        self.reply: Reply | None = None
        self.server: LocalServer

    def answer(self, asked: Asked) -> Reply:
        if self.reply:
            return self.reply
        if asked.headers.get("if-none-match") == ETAG:
            return Reply(304)
        return Reply(body=self.feed, headers={"etag": ETAG})


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    found = Publisher()
    with serving(found.answer) as found.server:
        settings.PRICE_DATA_URL = f"{found.server.url}/data.json"
        settings.ALERT_EMAILS = ["ops@example.com"]
        yield found


@pytest.fixture
def target(publisher: Publisher) -> Target:
    """A target with the installed data's price."""
    provider = Provider.objects.create(slug="openai", base_url="http://127.0.0.1:9")
    model = Model.objects.create(public_id="openai/gpt-4o")
    found = Target.objects.create(model=model, provider=provider, upstream_id="gpt-4o")
    assert seeding.price_targets(provider, now=NOW - 9 * DAY) == 1
    return found


def inputs(target: Target) -> list[float]:
    """Return the input rates of a target, oldest first, in dollars."""
    return [rate / 10**9 for rate in target.prices.order_by("effective_at").values_list("input", flat=True)]


@pytest.mark.django_db
def test_a_changed_rate_begins_as_a_new_price_of_the_data(publisher: Publisher, target: Target) -> None:
    outcome = price_refresh.run(NOW)
    assert (str(outcome), outcome.problems) == ("fetched; 1 prices written, 0 waiting", [])
    assert inputs(target) == [2.5, 2]
    newest = target.prices.get(effective_at=NOW)
    assert (newest.output, newest.cache_read, newest.source) == (8 * 10**9, 1_250_000_000, Price.SEED)
    assert publisher.server.asked[0].headers["accept-encoding"] == "identity"
    assert mail.outbox == []


@pytest.mark.django_db
def test_what_is_unchanged_is_asked_for_by_its_etag_and_writes_nothing(publisher: Publisher, target: Target) -> None:
    price_refresh.run(NOW)
    assert str(price_refresh.run(NOW + DAY)) == "unchanged; 0 prices written, 0 waiting"
    assert [asked.headers.get("if-none-match") for asked in publisher.server.asked] == [None, ETAG]
    row = PriceData.objects.get()
    assert (row.fetched_at, row.confirmed_at) == (NOW, NOW + DAY)
    publisher.reply = Reply(body=publisher.feed)
    assert str(price_refresh.run(NOW + 2 * DAY)) == "unchanged; 0 prices written, 0 waiting"
    assert inputs(target) == [2.5, 2]


@pytest.mark.django_db
def test_an_etag_that_cannot_be_sent_back_is_not(publisher: Publisher, target: Target) -> None:
    for etag in ('"\xe9"', '"' + 999 * "x" + '"'):
        publisher.reply = Reply(body=publisher.feed, headers={"etag": etag})
        assert price_refresh.run(NOW).problems == []
        assert PriceData.objects.get().etag == ""


@pytest.mark.django_db
def test_a_model_that_cannot_be_kept_is_left_out_of_the_list(publisher: Publisher, target: Target) -> None:
    def sold(model_id: str, **fields: Any) -> dict[str, Any]:
        prices = {"input_mtok": 1, "output_mtok": 1}
        return {"id": model_id, "match": {"equals": model_id}, "prices": prices, **fields}

    (openai,) = (provider for provider in publisher.feed if provider["id"] == "openai")
    openai["models"] += [sold("x" * 257), sold("a\0b"), sold("gpt-9", name="9\0" * 99, context_window=2**40)]
    price_refresh.run(NOW)
    assert inputs(target) == [2.5, 2]
    entries = price_list.load("openai", [], NOW.date(), price_data.content(NOW)).entries
    assert (entries["gpt-9"].name, entries["gpt-9"].context_tokens) == ("9" * 99, None)
    assert not {"x" * 257, "a\0b"} & set(entries)


def older(feed: list[dict[str, Any]]) -> Reply:
    """Every price that began in the last two years has not been heard of yet."""
    for provider in feed:
        for model in provider["models"]:
            if isinstance(model["prices"], list):
                model["prices"] = [
                    each
                    for each in model["prices"]
                    if (each.get("constraint") or {}).get("start_date", "") < f"{NOW - 730 * DAY:%Y-%m-%d}"
                ] or model["prices"][0]["prices"]
    return Reply(body=feed)


def smaller(feed: list[dict[str, Any]]) -> Reply:
    return Reply(body=[provider for provider in feed if provider["id"] in ("openai", "anthropic")])


def priced_in_words(feed: list[dict[str, Any]]) -> Reply:
    price_feed.model(feed, "openai", "gpt-4o")["prices"]["input_mtok"] = "cheap"
    return Reply(body=feed)


def truncated(feed: list[dict[str, Any]]) -> Reply:
    whole = json.dumps(feed).encode()
    return Reply(body=whole[:-1000], headers={"content-length": str(len(whole)), "connection": "close"})


BAD: dict[str, tuple[Callable[[list[dict[str, Any]]], Reply], str]] = {
    "no JSON": (lambda _: Reply(body=b"<html>"), "does not parse.*JSONDecodeError"),
    "half": (lambda feed: Reply(body=json.dumps(feed).encode()[:-1000]), "does not parse.*JSONDecodeError"),
    "cut off": (truncated, "could not be reached"),
    "no list": (lambda _: Reply(body={"providers": []}), "no list of providers"),
    "deep": (lambda _: Reply(body=b"[" * 100_000), "does not parse.*RecursionError"),
    "in words": (priced_in_words, "does not parse"),
    "empty": (lambda _: Reply(body=[]), "has 0 models"),
    "smaller": (smaller, "models where .* are known"),
    "older": (older, "older than what is known"),
    "huge": (lambda _: Reply(body=b" " * (price_refresh.FEED_BYTES_MAX + 1)), "more than 33554432 bytes"),
    "broken server": (lambda _: Reply(503), "answered 503"),
    "moved": (lambda _: Reply(301, headers={"location": "http://127.0.0.1:9/"}), "answered 301"),
    "nothing new, unasked": (lambda _: Reply(304), "answered 304"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", BAD)
def test_a_feed_that_cannot_be_trusted_changes_nothing_and_fails_the_job(
    publisher: Publisher, target: Target, name: str
) -> None:
    reply, problem = BAD[name]
    publisher.reply = reply(publisher.feed)
    with pytest.raises(price_refresh.RefreshFailed, match=problem):
        refresh_prices()
    assert inputs(target) == [2.5]
    assert not PriceData.objects.exists()
    assert not Proposal.objects.exists()


@pytest.mark.django_db
def test_a_server_that_is_away_leaves_what_was_fetched_before_in_use(publisher: Publisher, target: Target) -> None:
    price_refresh.run(NOW)
    publisher.reply = Reply(500)
    outcome = price_refresh.run(NOW + DAY)
    assert outcome.problems == ["No price data was fetched: the server answered 500."]
    assert (outcome.written, inputs(target)) == (0, [2.5, 2])


@pytest.mark.django_db
def test_a_server_that_does_not_listen_is_a_problem_and_no_crash(target: Target, settings: Settings) -> None:
    settings.PRICE_DATA_URL = "http://127.0.0.1:9/data.json"
    assert "could not be reached" in price_refresh.run(NOW).problems[0]
    assert inputs(target) == [2.5]


POISON = {
    "a thousand times": {"input_mtok": 2500, "output_mtok": 10_000},
    "one part only": {"cache_read_mtok": 12.5},
    "for nothing": {"input_mtok": 0, "output_mtok": 0, "cache_read_mtok": 0},
    "a fifth": {"output_mtok": 1.9},
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", POISON)
def test_a_rate_that_moves_too_far_waits_for_the_operator_who_is_told_once(
    publisher: Publisher, target: Target, name: str
) -> None:
    publisher.rates |= POISON[name]
    outcome = price_refresh.run(NOW)
    assert (str(outcome), outcome.problems) == ("fetched; 0 prices written, 1 waiting", [])
    assert inputs(target) == [2.5]
    waiting = Proposal.objects.get()
    assert (waiting.kind, waiting.state, waiting.public_id) == (Proposal.PRICE, Proposal.OPEN, "openai/gpt-4o")
    (told,) = mail.outbox
    assert told.to == ["ops@example.com"]
    assert told.subject == "Aperture: the price of openai/gpt-4o waits for you"
    assert waiting.reason in told.body
    price_refresh.run(NOW + DAY)
    assert (len(mail.outbox), Proposal.objects.count(), inputs(target)) == (1, 1, [2.5])


@pytest.mark.django_db
@pytest.mark.parametrize("rate", ["NaN", -1, 1e9], ids=["not a number", "negative", "beyond the column"])
def test_a_rate_that_cannot_be_kept_hinders_no_other(publisher: Publisher, target: Target, rate: Any) -> None:
    other = Target.objects.create(
        model=Model.objects.create(public_id="openai/gpt-4.1"), provider=target.provider, upstream_id="gpt-4.1"
    )
    publisher.rates["input_mtok"] = rate
    price_refresh.run(NOW)
    assert inputs(target) == [2.5]
    assert inputs(other) == [2]


@pytest.mark.django_db
def test_an_accepted_price_begins_as_it_was_shown(publisher: Publisher, target: Target) -> None:
    publisher.rates |= {"output_mtok": 80}
    price_refresh.run(NOW)
    waiting = Proposal.objects.get()
    assert waiting.reason == "output $10.00 to $80.00, reasoning $10.00 to $80.00, audio output $10.00 to $80.00"
    done = proposals.accept([waiting], NOW + DAY)
    assert done == "0 models, 0 targets, 1 prices made; 0 targets switched off"
    assert (inputs(target), target.prices.get(effective_at=NOW + DAY).output) == ([2.5, 2], 80 * 10**9)
    assert str(price_refresh.run(NOW + 2 * DAY)) == "unchanged; 0 prices written, 0 waiting"


@pytest.mark.django_db
def test_the_admin_shows_what_moved_and_accepts_it(publisher: Publisher, target: Target, client: Client) -> None:
    publisher.rates |= {"output_mtok": 80}
    price_refresh.run(NOW)
    waiting = Proposal.objects.get()
    client.force_login(User.objects.create_superuser("root@example.com", "swordfish-1"))
    for page in (reverse("admin:catalog_proposal_changelist"), f"/admin/catalog/proposal/{waiting.pk}/change/"):
        assert "output $10.00 to $80.00" in client.get(page).content.decode()
    client.post(reverse("admin:catalog_proposal_accept_one", args=[waiting.pk]), {"_form_submitted": "on"})
    waiting.refresh_from_db()
    assert (waiting.state, inputs(target)) == (Proposal.ACCEPTED, [2.5, 2])


@pytest.mark.django_db
def test_an_ignored_price_is_not_proposed_again_but_another_one_is(publisher: Publisher, target: Target) -> None:
    publisher.rates |= {"output_mtok": 80}
    price_refresh.run(NOW)
    assert proposals.ignore(Proposal.objects.all(), NOW) == 1
    assert price_refresh.run(NOW + DAY).waiting == 0
    publisher.rates |= {"output_mtok": 90}
    publisher.reply = Reply(body=publisher.feed)
    assert price_refresh.run(NOW + 2 * DAY).waiting == 1
    assert (inputs(target), len(mail.outbox)) == ([2.5], 2)


@pytest.mark.django_db
def test_what_the_data_takes_back_is_not_proposed_any_more(publisher: Publisher, target: Target) -> None:
    publisher.rates |= {"output_mtok": 80}
    price_refresh.run(NOW)
    publisher.rates |= {"output_mtok": 9}
    publisher.reply = Reply(body=publisher.feed)
    assert str(price_refresh.run(NOW + DAY)) == "fetched; 1 prices written, 0 waiting"
    assert not Proposal.objects.exists()


@pytest.mark.django_db
def test_an_operators_price_is_neither_replaced_nor_questioned(publisher: Publisher, target: Target) -> None:
    publisher.rates |= {"output_mtok": 80}
    price_refresh.run(NOW)
    Price.objects.create(target=target, effective_at=NOW, input=7, output=9, source=Price.OPERATOR)
    done = proposals.accept(Proposal.objects.all(), NOW + DAY)
    assert done == "0 models, 0 targets, 0 prices made; 0 targets switched off"
    publisher.rates |= {"output_mtok": 9}
    publisher.reply = Reply(body=publisher.feed)
    assert str(price_refresh.run(NOW + 2 * DAY)) == "fetched; 0 prices written, 0 waiting"
    assert target.prices.count() == 2


@pytest.mark.django_db
def test_providers_that_are_switched_off_are_left_alone(publisher: Publisher, target: Target) -> None:
    Provider.objects.update(enabled=False)
    assert str(price_refresh.run(NOW)) == "fetched; 0 prices written, 0 waiting"


@pytest.mark.django_db
def test_a_mail_that_cannot_be_sent_is_tried_again(
    publisher: Publisher, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.rates |= {"output_mtok": 80}
    with monkeypatch.context() as patched:
        patched.setattr("django.core.mail.EmailMessage.send", lambda _: 0)
        price_refresh.run(NOW)
    assert price_refresh.tell(NOW + DAY) == 1
    assert len(mail.outbox) == 1


@pytest.mark.django_db
def test_another_version_of_the_package_replaces_data_that_nobody_confirmed_lately(
    publisher: Publisher, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    price_refresh.run(NOW)
    assert price_data.content(NOW + 30 * DAY)
    monkeypatch.setattr(price_data, "version", lambda _: "99")
    assert price_data.content(NOW + DAY)
    assert not price_data.content(NOW + 4 * DAY)
    price_refresh.run(NOW + 4 * DAY)
    assert publisher.server.asked[-1].headers.get("if-none-match") is None
    assert price_data.content(NOW + 5 * DAY)


@pytest.mark.django_db
def test_kept_data_that_cannot_be_read_any_more_gives_way_to_the_packages(
    publisher: Publisher, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    price_refresh.run(NOW)
    PriceData.objects.update(content=b"rot")
    assert seeding.price_targets(target.provider, now=NOW + DAY) == 1
    assert inputs(target) == [2.5, 2, 2.5]
    assert "the fetched price data is left aside" in caplog.text
    assert str(price_refresh.run(NOW + 2 * DAY)) == "fetched; 1 prices written, 0 waiting"


@pytest.mark.django_db
def test_without_an_address_nothing_is_fetched_and_the_package_prices(
    publisher: Publisher, target: Target, settings: Settings
) -> None:
    price_refresh.run(NOW)
    settings.PRICE_DATA_URL = ""
    assert str(price_refresh.run(NOW + DAY)) == "fetching is off; 1 prices written, 0 waiting"
    assert inputs(target) == [2.5, 2, 2.5]
    assert len(publisher.server.asked) == 1


@pytest.mark.django_db
def test_the_command_says_what_it_did(publisher: Publisher, target: Target) -> None:
    out = StringIO()
    call_command("refresh_prices", stdout=out)
    assert out.getvalue() == "fetched; 1 prices written, 0 waiting.\n"
    publisher.reply = Reply(500)
    with pytest.raises(CommandError, match="the server answered 500"):
        call_command("refresh_prices", stdout=out)
    assert "nothing fetched; 0 prices written, 0 waiting" in out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_of_two_refreshes_at_once_one_works(publisher: Publisher, target: Target) -> None:
    done = sorted(map(str, at_once(*[lambda: price_refresh.run(NOW)] * 3)))
    assert done[0] == done[1] == "another refresh is running; 0 prices written, 0 waiting"
    assert done[2] == "fetched; 1 prices written, 0 waiting"
    assert (len(publisher.server.asked), inputs(target)) == (1, [2.5, 2])


@pytest.mark.django_db(transaction=True)
def test_a_failed_refresh_is_a_failed_job(publisher: Publisher, target: Target) -> None:
    publisher.reply = Reply(body=b"<html>")
    app.loader.import_default_modules()
    name = "gateway.tasks.refresh_prices"
    assert app.tasks[name].apply().failed()
    job = Job.objects.get(task=name)
    assert job.last_outcome == Job.FAILED
    assert job.last_error.startswith("RefreshFailed: The fetched price data does not parse")


def test_the_address_is_the_packages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from genai_prices.update_prices import DEFAULT_UPDATE_URL as url; print(url)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip()
    monkeypatch.delenv("APERTURE_PRICE_DATA_URL")
    code = "from django.conf import settings; print(settings.PRICE_DATA_URL)"
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip()
    assert ours == theirs
    assert "APERTURE_PRICE_DATA_URL" in env.READ
    assert "genai_prices" not in sys.modules
