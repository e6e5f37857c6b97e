"""What a provider lists is compared with what is served from it: over real sockets, with the price data as it is."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from catalog import credentials, health, proposals
from catalog.models import Alias, Check, Model, Proposal, Provider, Standing, Target
from catalog.price_list import PriceListError
from gateway import discovery
from tests.local_server import LocalServer, Reply, serving
from tests.races import at_once

DAY = timedelta(days=1)
# Of the vendor's: two that are offered, a dated snapshot, a kind that is not, and one whose price nobody knows.
LISTED = ["gpt-4o", "text-embedding-3-small", "gpt-4o-2024-08-06", "whisper-1", "gpt-9.9-luna"]


class Listing:
    """A provider's listing, which a test may change."""

    def __init__(self) -> None:
        self.names = list(LISTED)
        self.reply: Reply | None = None
        self.server: LocalServer


@pytest.fixture
def listing() -> Iterator[Listing]:
    found = Listing()
    with serving(lambda _: found.reply or Reply(body={"data": [{"id": name} for name in found.names]})) as found.server:
        yield found


def openai(listing: Listing, **fields: str) -> Provider:
    """A mirror of OpenAI: a provider belongs to a vendor by its slug, too."""
    row = Provider.objects.create(slug="openai", base_url=listing.server.url, **fields)
    credentials.store(row, "up-canary")
    return row


@pytest.mark.django_db
def test_new_models_with_a_known_price_are_proposed_once_under_their_usual_names(listing: Listing) -> None:
    provider, now = openai(listing), timezone.now()
    assert discovery.compare(provider, now).new == 2
    found = {row.upstream_id: row for row in Proposal.objects.all()}
    assert {name: (row.public_id, row.model_kind, row.state) for name, row in found.items()} == {
        "gpt-4o": ("openai/gpt-4o", "chat", "open"),
        "text-embedding-3-small": ("openai/text-embedding-3-small", "embedding", "open"),
    }
    assert (found["gpt-4o"].input, found["gpt-4o"].output) == (2_500_000_000, 10_000_000_000)
    assert not Model.objects.exists()
    assert discovery.compare(provider, now + DAY).new == 0
    assert Proposal.objects.count() == 2


@pytest.mark.django_db
def test_accepting_makes_the_model_its_target_and_its_price_and_ignoring_nothing(listing: Listing) -> None:
    provider, now = openai(listing), timezone.now()
    discovery.compare(provider, now)
    chat, embedding = Proposal.objects.order_by("upstream_id")
    assert proposals.accept([chat], now) == "1 models, 1 targets, 1 prices made; 0 targets switched off"
    assert proposals.ignore([embedding], now) == 1
    target = Target.objects.get()
    assert (target.model.public_id, target.model.owner, target.model.kind) == ("openai/gpt-4o", "OpenAI", "chat")
    assert (target.source, target.model.supports_vision) == ("seed", True)
    assert target.prices.get().input == 2_500_000_000
    assert proposals.accept([chat], now) == "0 models, 0 targets, 0 prices made; 0 targets switched off"
    assert proposals.ignore([embedding], now) == 0
    assert discovery.compare(provider, now + DAY).new == 0
    assert dict(Proposal.objects.values_list("upstream_id", "state")) == {
        "gpt-4o": "accepted",
        "text-embedding-3-small": "ignored",
    }


@pytest.mark.django_db
def test_a_provider_that_publishes_serves_them_at_once_and_never_again_what_was_deleted(listing: Listing) -> None:
    provider, now = openai(listing, discovery=Provider.PUBLISH), timezone.now()
    outcome = discovery.compare(provider, now)
    assert (outcome.new, outcome.published) == (0, 2)
    assert set(Target.objects.values_list("model__public_id", "model__kind")) == {
        ("openai/gpt-4o", "chat"),
        ("openai/text-embedding-3-small", "embedding"),
    }
    assert set(Proposal.objects.values_list("state", flat=True)) == {Proposal.PUBLISHED}
    Target.objects.get(upstream_id="gpt-4o").delete()
    assert discovery.compare(provider, now + DAY).published == 0
    assert Target.objects.count() == 1


@pytest.mark.django_db
def test_what_could_not_be_published_is_published_the_next_day(
    listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, now = openai(listing, discovery=Provider.PUBLISH), timezone.now()

    def fail(*_rows: object, **_how: object) -> None:
        raise PriceListError("no prices today")

    with monkeypatch.context() as broken:
        broken.setattr("catalog.seeding.publish", fail)
        assert discovery.compare(provider, now).problem == "no prices today"
    assert discovery.compare(provider, now + DAY).published == 2


@pytest.mark.django_db
def test_what_is_served_already_under_whatever_name_is_not_proposed(listing: Listing) -> None:
    provider, now = openai(listing), timezone.now()
    model = Model.objects.create(public_id="ours")
    Alias.objects.create(name="nick", model=model)
    Target.objects.create(model=model, provider=provider, upstream_id="gpt-4o", enabled=False)
    discovery.compare(provider, now)
    assert list(Proposal.objects.values_list("upstream_id", flat=True)) == ["text-embedding-3-small"]
    Target.objects.create(model=model, provider=provider, upstream_id="text-embedding-3-small")
    discovery.compare(provider, now + DAY)
    assert not Proposal.objects.exists()


@pytest.mark.django_db
def test_a_provider_of_no_known_vendor_lists_the_vendors_models(listing: Listing) -> None:
    proxy = Provider.objects.create(slug="proxy", base_url=listing.server.url)
    listing.names += ["our-own-model"]
    discovery.compare(proxy, timezone.now())
    assert set(Proposal.objects.values_list("public_id", flat=True)) == {
        "openai/gpt-4o",
        "openai/text-embedding-3-small",
    }


@pytest.mark.django_db
def test_a_vanished_model_is_flagged_after_two_listings_and_unflagged_when_it_is_back(listing: Listing) -> None:
    provider, now = openai(listing), timezone.now()
    model = Model.objects.create(public_id="openai/gpt-4o")
    target = Target.objects.create(model=model, provider=provider, upstream_id="gpt-4o")
    discovery.compare(provider, now)
    listing.names.remove("gpt-4o")
    assert [discovery.compare(provider, now + number * DAY).vanished for number in (1, 2, 3)] == [0, 1, 0]
    flagged = Proposal.objects.get(kind=Proposal.VANISHED)
    assert (flagged.upstream_id, flagged.public_id, flagged.state) == ("gpt-4o", "openai/gpt-4o", "open")
    assert Standing.objects.get(target=target).state == health.DOWN
    target.refresh_from_db()
    assert target.enabled
    listing.names.append("gpt-4o")
    discovery.compare(provider, now + 4 * DAY)
    assert not Proposal.objects.filter(kind=Proposal.VANISHED).exists()
    assert Standing.objects.get(target=target).state == health.UP


@pytest.mark.django_db
def test_accepting_that_a_model_vanished_switches_its_target_off(listing: Listing) -> None:
    provider, now = openai(listing), timezone.now()
    model = Model.objects.create(public_id="openai/gpt-4o")
    target = Target.objects.create(model=model, provider=provider, upstream_id="gpt-4o")
    discovery.compare(provider, now)
    listing.names.remove("gpt-4o")
    discovery.compare(provider, now + DAY)
    discovery.compare(provider, now + 2 * DAY)
    done = proposals.accept(Proposal.objects.filter(kind=Proposal.VANISHED), now)
    assert done == "0 models, 0 targets, 0 prices made; 1 targets switched off"
    target.refresh_from_db()
    assert not target.enabled


@pytest.mark.django_db
@pytest.mark.parametrize(
    "reply",
    [
        Reply(503, b""),
        Reply(404, b""),
        Reply(body={"data": []}),
        Reply(301, b"", {"location": "http://127.0.0.1:9/"}),
        Reply(body={"data": [{"id": "x" * 1000} for _ in range(5000)]}),
        Reply(200, b"<html>"),
        Reply(body={"data": [{"id": "endless"}], "has_more": True, "last_id": "endless"}),
    ],
    ids=["broken", "none", "empty", "redirect", "huge", "page", "endless"],
)
def test_what_is_no_whole_listing_changes_nothing(listing: Listing, reply: Reply) -> None:
    provider, now = openai(listing), timezone.now()
    model = Model.objects.create(public_id="openai/gpt-4o")
    target = Target.objects.create(model=model, provider=provider, upstream_id="gpt-4o")
    discovery.compare(provider, now)
    listing.reply = reply
    for number in (1, 2, 3):
        assert discovery.compare(provider, now + number * DAY).problem.startswith("No whole list of models")
    assert Standing.objects.get(target=target).state == health.UP
    assert not Proposal.objects.filter(kind=Proposal.VANISHED).exists()
    assert len(listing.server.asked) <= 1 + 3 * discovery.PAGES_MAX
    assert sum(Check.objects.values_list("requests", flat=True)) == len(listing.server.asked)


@pytest.mark.django_db
def test_private_addresses_are_listed_by_policy_only(listing: Listing, settings: Settings) -> None:
    settings.PRIVATE_UPSTREAMS = ["forbid"]
    outcome = discovery.compare(openai(listing), timezone.now())
    assert "refused by this installation's policy" in outcome.problem
    assert listing.server.asked == []


@pytest.mark.django_db
def test_each_provider_is_compared_once_a_day_and_the_demo_never(listing: Listing) -> None:
    openai(listing)
    Provider.objects.create(slug="quiet", base_url=listing.server.url, discovery=Provider.OFF)
    Provider.objects.create(slug="gone", base_url=listing.server.url, enabled=False)
    Provider.objects.create(slug="demo", base_url=listing.server.url, source=Provider.DEMO)
    now = timezone.now()
    for at in (now, now + timedelta(hours=1), now + DAY):
        discovery.run_due(at)
    assert len(listing.server.asked) == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_at_once_one_compares(listing: Listing) -> None:
    openai(listing)
    now = timezone.now()
    at_once(*[lambda: discovery.run_due(now)] * 3)
    assert len(listing.server.asked) == 1
