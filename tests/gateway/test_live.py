"""Pages see their own requests as they happen, across processes; unwatched, nothing is published for them."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from django.utils import timezone

from accounts import keys
from accounts.models import APIKey, Grant, Membership, Organization, User
from catalog import health, standings
from catalog.models import Provider, Standing
from gateway.live import EVENTS_MAX, Outbox, began_at_ms
from tests.gateway.conftest import APPLICATION, BOUNDS, Gateway
from tests.gateway.installation import CANARY, CREDENTIAL
from tests.gateway.own_valkey import OwnValkey, own_valkey
from tests.gateway.watching import LivePage, signed_in, watching
from tests.servers import WebProcess, start_web

pytestmark = pytest.mark.server


@dataclass
class Team:
    """Alice owns an organization, Bob is its plain member, Charlie is an outsider, Olga operates it all."""

    alice: User
    bob: User
    charlie: User
    olga: User
    organization: Organization
    alices_key: str
    bobs_key: str


@pytest.fixture(scope="module")
def team(gateway: Gateway) -> Team:
    alice, bob, charlie = (gateway.installed.users[name] for name in ("alice", "bob", "charlie"))
    organization = Organization.objects.create(name="Team")
    Membership.objects.create(organization=organization, user=alice, role=Membership.OWNER)
    Membership.objects.create(organization=organization, user=bob, role=Membership.MEMBER)
    Grant.objects.create(subjects=["everyone"], role=Grant.USER, model_globs=["chaos/*"])
    gateway.follow()
    return Team(
        alice,
        bob,
        charlie,
        User.objects.create_superuser("olga@example.com", "olga's long password"),
        organization,
        keys.mint(user=alice, organization=organization)[1],
        keys.mint(user=bob, organization=organization)[1],
    )


@pytest.fixture(scope="module")
def other(gateway: Gateway, engines: Path) -> Iterator[WebProcess]:
    """A second web process, on the other server, over the same engines."""
    with start_web("uvicorn", APPLICATION, engines, DATABASE_URL=gateway.installed.database_url, **BOUNDS) as web:
        yield web


def settled(page: LivePage) -> LivePage:
    """Return the page once every process can have learned of it."""
    page.kind("live")
    page.read_for(1.0)
    return page


def published(url: str) -> int:
    """Return how many messages Redis was ever given to publish."""
    statistics = redis.Redis.from_url(url).info("commandstats")
    return int(statistics.get("cmdstat_publish", {}).get("calls", 0))


def test_a_page_on_another_process_sees_a_request_from_its_start_to_its_cost(
    gateway: Gateway, other: WebProcess, team: Team
) -> None:
    with watching(other.port, signed_in(team.alice)) as page:
        settled(page)
        answer = gateway.stream("ok", key=team.alices_key, session_id="session-7")

        finished = page.event(answer.request_id)
        names = [event["event"] for event in page.events() if event["id"] == answer.request_id]

    assert names == ["started", "first_token", "finished"]
    [row] = gateway.installed.usage(answer.request_id)
    assert finished["model"] == "chaos/ok"
    assert finished["provider"] == "chaos"
    assert finished["key"] == APIKey.objects.get(pk=row["key_id"]).display
    assert finished["session"] == "session-7"
    assert finished["status"] == 200
    assert finished["duration_ms"] == row["duration_ms"]
    assert finished["input_tokens"] == row["input_tokens"] + row["cache_read_tokens"]
    assert finished["output_tokens"] == row["output_tokens"]
    assert finished["cost"] == f"{row['cost_nanos'] / 1e9:.9f}"
    assert finished["organization"] == "Team"
    assert abs(finished["at_ms"] / 1000 - time.time()) < 10


def test_a_request_that_fails_says_how(gateway: Gateway, team: Team) -> None:
    with watching(gateway.port, signed_in(team.alice)) as page:
        settled(page)
        answer = gateway.chat("status-500-json", key=team.alices_key)
        finished = page.event(answer.request_id)

    assert (finished["status"], finished["error"], finished["cost"]) == (502, "upstream_failed", "0.000000000")


def test_a_new_page_gets_events_within_a_second(gateway: Gateway, team: Team) -> None:
    def call_on() -> None:
        for _ in range(40):
            gateway.chat("ok", key=team.bobs_key)
            time.sleep(0.05)

    with ThreadPoolExecutor(1) as pool, watching(gateway.port, signed_in(team.bob)) as page:
        opened_at = time.monotonic()
        calling = pool.submit(call_on)
        page.kind("requests")
        took_s = time.monotonic() - opened_at
        calling.result()

    assert took_s < 1.2


def test_a_page_that_opens_in_the_middle_learns_of_what_runs(gateway: Gateway, team: Team) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(gateway.stream, "drip-0.7", key=team.alices_key)
        time.sleep(0.5)
        with watching(gateway.port, signed_in(team.alice)) as page:
            told = page.wait(lambda message: bool(message.get("running")))
            answer = running.result()
            page.event(answer.request_id)
            page.wait(lambda message: message["type"] == "running" and message["count"] == 0)

    [event] = told["running"]
    assert told["count"] == 1
    assert (event["id"], event["model"]) == (answer.request_id, "chaos/drip-0.7")


def test_each_sees_what_is_theirs_and_nothing_else(gateway: Gateway, other: WebProcess, team: Team) -> None:
    with (
        watching(other.port, signed_in(team.alice)) as alice,
        watching(other.port, signed_in(team.bob)) as bob,
        watching(other.port, signed_in(team.charlie)) as charlie,
        watching(other.port, signed_in(team.olga), "?as=operator") as olga,
    ):
        for page in (alice, bob, charlie, olga):
            settled(page)
        of_alice = gateway.chat("ok", key=team.alices_key).request_id
        of_bob = gateway.chat("ok", key=team.bobs_key).request_id
        bob_alone = gateway.chat("ok", key=gateway.installed.keys["bob"]).request_id
        for page in (alice, bob, charlie, olga):
            page.read_for(1.5)
        seen = {page: {event["id"] for event in page.events()} for page in (alice, bob, charlie, olga)}

    assert seen[alice] == {of_alice, of_bob}
    assert seen[bob] == {of_bob, bob_alone}
    assert seen[charlie] == set()
    assert seen[olga] == {of_alice, of_bob, bob_alone}
    texts = json.dumps(charlie.messages)
    assert "alice" not in texts and "Team" not in texts and "chaos" not in texts
    organizations = {message["organization_id"] for message in bob.messages if message["type"] == "balance"}
    assert team.organization.pk not in organizations


def test_an_owner_is_told_of_a_changed_balance_and_a_member_is_not(gateway: Gateway, team: Team) -> None:
    from billing import ledger
    from billing.models import House, Kind
    from billing.money import Money

    ledger.wallet_of(team.organization.pk)

    def is_five_more(message: dict[str, str]) -> bool:
        return message["type"] == "balance" and message["posted"].startswith("5.")

    with watching(gateway.port, signed_in(team.alice)) as owner, watching(gateway.port, signed_in(team.bob)) as member:
        owner.kind("balance")
        ledger.credit(team.organization.pk, Money(5 * 10**9), Kind.TOP_UP, House.CLEARING)
        balance = owner.wait(is_five_more)
        member.read_for(2.5)

    assert balance["organization_id"] == team.organization.pk
    assert not any(message.get("organization_id") == team.organization.pk for message in member.messages)


def test_operators_are_told_of_a_provider_that_goes_and_comes_back(gateway: Gateway, team: Team) -> None:
    told = []
    with watching(gateway.port, signed_in(team.olga), "?as=operator") as page:
        settled(page)
        Provider.objects.filter(slug="nowhere").update(enabled=False)
        down = page.kind("provider")
        Provider.objects.filter(slug="nowhere").update(enabled=True)
        up = page.kind("provider")
        refused = Provider.objects.get(slug="refused")
        for outcome in (health.FAILED, health.FAILED, health.OK):
            standings.apply(refused, health.Signal(outcome, timezone.now()), trusted_s=300)
            if outcome == health.OK or Standing.objects.get(provider=refused).state == health.DOWN:
                told.append(page.kind("provider"))

    assert (down["provider"], down["up"]) == ("nowhere", False)
    assert (up["provider"], up["up"]) == ("nowhere", True)
    assert [(each["provider"], each["up"]) for each in told] == [("refused", False), ("refused", True)]


def test_operators_are_told_of_a_provider_whose_checks_fail(gateway: Gateway, team: Team) -> None:
    provider = Provider.objects.get(slug="nowhere")
    Provider.objects.filter(pk=provider.pk).update(check_by=Provider.LISTING)
    gateway.follow()
    with watching(gateway.port, signed_in(team.olga), "?as=operator") as page:
        settled(page)
        standing, _ = Standing.objects.update_or_create(
            provider=provider,
            credential=None,
            target=None,
            defaults={
                "basis": provider.base_url,
                "state": "down",
                "trusted_until_at": timezone.now() + timedelta(minutes=5),
            },
        )
        down = page.kind("provider")
        standing.delete()
        up = page.kind("provider")

    assert (down["provider"], down["up"]) == ("nowhere", False)
    assert (up["provider"], up["up"]) == ("nowhere", True)


def test_nothing_is_published_while_nobody_watches(gateway: Gateway, other: WebProcess, team: Team) -> None:
    url = gateway.installed.redis_url
    with watching(other.port, signed_in(team.charlie)) as page:
        settled(page)
    time.sleep(1.5)
    before = published(url)
    for _ in range(10):
        gateway.chat("ok", key=team.alices_key)
        gateway.stream("ok", key=team.alices_key)
    time.sleep(1.0)

    assert published(url) == before


def test_no_event_holds_a_prompt_an_answer_a_key_or_a_credential(gateway: Gateway, team: Team) -> None:
    with watching(gateway.port, signed_in(team.olga), "?as=operator") as page:
        settled(page)
        for scenario in ("ok", "repeats", "status-400-json", "status-401-json"):
            gateway.chat(scenario, key=team.alices_key, text=CANARY)
            gateway.stream(scenario, key=team.alices_key, text=CANARY)
        answer = gateway.chat("ok", key=team.alices_key, text=CANARY).json["choices"][0]["message"]["content"]
        page.read_for(1.5)
    seen = json.dumps(page.messages)

    assert len(page.events()) > 10
    for secret in (CANARY, answer, team.alices_key, CREDENTIAL):
        assert secret not in seen


def test_a_burst_reaches_a_page_as_few_messages_that_count_all(gateway: Gateway, team: Team) -> None:
    with watching(gateway.port, signed_in(team.alice)) as page:
        settled(page)
        began_at = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _number: gateway.chat("ok", key=team.alices_key), range(60)))
        took_s = time.monotonic() - began_at
        page.read_for(1.0)
    messages = [message for message in page.messages if message["type"] == "requests"]

    assert sum(message["finished"] for message in messages) == 60
    assert len(messages) <= (took_s + 1.0) / 0.25 + 1


@pytest.fixture
def valkey() -> Iterator[OwnValkey]:
    with own_valkey() as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("server_name", ["daphne", "uvicorn"])
def test_redis_away_pauses_the_pages_and_nothing_else(
    server_name: str, gateway: Gateway, team: Team, valkey: OwnValkey, engines: Path
) -> None:
    environment = BOUNDS | {"REDIS_URL": valkey.url, "DATABASE_URL": gateway.installed.database_url}
    environment["APERTURE_LOG_LEVEL"] = "INFO"
    with (
        start_web(server_name, APPLICATION, engines, **environment) as web,
        watching(web.port, signed_in(team.alice)) as page,
    ):
        settled(page)
        logged = len(web.log)
        valkey.kill()
        page.kind("paused", 8)
        there = Gateway(web, gateway.upstream, gateway.installed, server_name)
        began_at = time.monotonic()
        assert [there.chat("ok", key=team.alices_key).status for _ in range(5)] == [200] * 5
        assert time.monotonic() - began_at < 2
        with watching(web.port, signed_in(team.bob)) as late:
            assert late.messages or late.kind("paused", 5)
        time.sleep(2)
        valkey.start()
        page.kind("live", 20)
        page.read_for(1.5)
        answer = there.chat("ok", key=team.alices_key)
        page.event(answer.request_id)
        log = web.log[logged:]

    assert log.count("live pages are paused") == 1
    assert "Traceback" not in log


# --- What needs no process --------------------------------------------------------------------------------------------


def test_an_outbox_drops_its_oldest_events_and_counts_them() -> None:
    outbox = Outbox()
    for number in range(EVENTS_MAX + 3):
        outbox.put({"id": number})

    assert outbox.missed == 3
    assert [event["id"] for event in outbox.events][:1] == [3]
    assert len(outbox.events) == EVENTS_MAX


def test_when_a_request_began_is_read_from_its_id() -> None:
    assert began_at_ms("0199a0c5-1d2a-7000-8000-000000000000") == 0x0199A0C51D2A
