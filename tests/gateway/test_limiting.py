"""Limits as callers meet them: a real web process over sockets, and a Valkey of its own that may go away."""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from accounts import keys
from accounts.models import APIKey, Grant, User
from billing import ledger
from billing.models import House, Kind, Limit, Plan, Wallet
from billing.money import Money
from catalog.models import Model, Target
from tests.gateway import http
from tests.gateway.conftest import APPLICATION, BOUNDS, Gateway
from tests.gateway.fronts import FRONTS, body_of, error_of, path_of
from tests.gateway.installation import Installation
from tests.gateway.own_valkey import OwnValkey, own_valkey
from tests.servers import start_web

pytestmark = pytest.mark.server

CHAT = "/v1/chat/completions"
FREE, BROKEN = "chaos/ok:free", "chaos/broken:free"
FAILED_KEYS = 10
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def valkey() -> Iterator[OwnValkey]:
    """The Valkey of the module's web process."""
    with own_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def bounds(valkey: OwnValkey) -> dict[str, str]:
    """The tests are a trusted proxy, so each says from which address it comes."""
    return BOUNDS | {
        "REDIS_URL": valkey.url,
        "APERTURE_TRUSTED_PROXIES": "127.0.0.0/8",
        "APERTURE_FAILED_KEYS_PER_MINUTE": str(FAILED_KEYS),
    }


@pytest.fixture(scope="module", autouse=True)
def free_models(installation: Installation) -> None:
    """Two free models, one of which always fails, and everybody may call them."""
    for public_id, upstream_id in ((FREE, "ok"), (BROKEN, "status-500-html")):
        model = Model.objects.create(public_id=public_id)
        Target.objects.create(model=model, provider=installation.providers["chaos"], upstream_id=upstream_id)
    Grant.objects.create(name="everyone", subjects=["everyone"], role=Grant.USER, model_globs=["**"])


class Person:
    """A user with a key, at an address of its own."""

    def __init__(self, gateway: Gateway, *, prepaid: bool = True, address: str = "") -> None:
        number = next(NUMBERS)
        self.gateway = gateway
        self.ports = [gateway.port]
        self.user = User.objects.create_user(f"person{number}@example.com")
        self.row, self.key = keys.mint(user=self.user)
        self.address = address or f"198.51.100.{number}"
        if prepaid:
            free = Plan.objects.get(slug=Plan.FREE)
            Wallet.objects.create(organization_id=self.row.organization_id, mode=Wallet.PREPAID, plan=free)

    def ask(self, model: str = FREE, **fields: Any) -> http.Answer:
        """Ask for a completion."""
        return self.call("POST", CHAT, body=http.chat(model, **fields))

    def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> http.Answer:
        """Make one request from the person's address."""
        headers = {"X-Forwarded-For": self.address, **options.pop("headers", {})}
        self.ports.append(self.ports.pop(0))
        return http.call(self.ports[0], method, path, key=self.key if key is None else key, headers=headers, **options)

    def ask_at_once(self, count: int, **fields: Any) -> list[http.Answer]:
        """Ask COUNT times, twelve at a time."""
        with ThreadPoolExecutor(12) as pool:
            return list(pool.map(lambda _: self.ask(**fields), range(count)))


def limit(gateway: Gateway, **fields: Any) -> None:
    """Make a limit, and return when the web process knows it."""
    Limit.objects.create(**fields)
    gateway.follow()


def eventually(condition: Callable[[], bool], timeout_s: float = 3.0) -> bool:
    """Wait until something is true, and tell whether it became so in time."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.02)
    return True


def statuses(answers: list[http.Answer]) -> list[int]:
    return sorted(answer.status for answer in answers)


# --- The sandbox -------------------------------------------------------------------------------------------------


def test_without_credit_exactly_twenty_free_requests_a_minute_pass(gateway: Gateway) -> None:
    person = Person(gateway)
    answers = person.ask_at_once(30)
    refused = [answer for answer in answers if answer.status != 200]

    assert statuses(answers) == [200] * 20 + [429] * 10
    assert {answer.error["code"] for answer in refused} == {"sandbox_limit"}
    assert {answer.error["type"] for answer in refused} == {"rate_limit_exceeded"}
    assert all("/account" in answer.error["message"] for answer in refused)
    assert all(50 <= int(answer.header("retry-after")) <= 61 for answer in refused)
    remaining = [int(answer.header("x-ratelimit-remaining-requests")) for answer in answers]
    assert sorted(remaining) == [0] * 10 + list(range(20))
    assert {answer.header("x-ratelimit-limit-requests") for answer in answers} == {"20"}


def test_exactly_twenty_pass_over_two_web_processes(
    gateway: Gateway, engines: Path, bounds: dict[str, str], server: str
) -> None:
    person = Person(gateway)
    address = gateway.installed.database_url
    with start_web(server, APPLICATION, engines, DATABASE_URL=address, **bounds) as second:
        person.ports.append(second.port)
        assert statuses(person.ask_at_once(200)) == [200] * 20 + [429] * 180


def test_a_failed_request_counts_against_no_limit(gateway: Gateway) -> None:
    person = Person(gateway)
    assert {person.ask(BROKEN).status for _ in range(22)} == {502}
    assert person.ask("no/such:free").status == 404
    assert person.call("POST", CHAT, body=b"{").status == 400
    answer = person.ask()
    assert (answer.status, answer.header("x-ratelimit-remaining-requests")) == (200, "19")


def test_credit_or_a_plan_lifts_the_sandbox_in_under_a_second(gateway: Gateway) -> None:
    payer, subscriber = Person(gateway), Person(gateway)
    for person in (payer, subscriber):
        person.ask_at_once(20)
        assert person.ask().status == 429
    ledger.credit(payer.row.organization_id, Money(10**9), Kind.TOP_UP, House.CLEARING)
    ledger.set_plan(subscriber.row.organization_id, Plan.objects.get(slug=Plan.PRO))
    for person in (payer, subscriber):
        assert eventually(lambda person=person: person.ask().status == 200, 1.0)  # type: ignore[misc]
        assert person.ask().header("x-ratelimit-limit-requests") == ""


def test_an_address_may_use_five_times_as_much_as_one_user(gateway: Gateway) -> None:
    Limit.objects.filter(scope=Limit.SANDBOX, kind=Limit.REQUESTS_PER_MINUTE).update(amount=2)
    gateway.follow()
    try:
        people = [Person(gateway, address=f"2001:db8:0:7::{number:x}") for number in range(1, 7)]
        answers = [person.ask() for person in people for _ in range(2)]
        assert [answer.status for answer in answers] == [200] * 10 + [429] * 2
        assert "your address" in answers[-1].error["message"]
        people[-1].address = "2001:db8:0:8::1"
        assert people[-1].ask().status == 200
    finally:
        Limit.objects.filter(scope=Limit.SANDBOX, kind=Limit.REQUESTS_PER_MINUTE).update(amount=20)
        gateway.follow()


def test_a_team_s_unmetered_callers_have_no_limit_and_no_headers(gateway: Gateway) -> None:
    person = Person(gateway, prepaid=False)
    answers = person.ask_at_once(25)
    assert statuses(answers) == [200] * 25
    assert not [name for name, _ in answers[0].headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("front", FRONTS)
def test_the_sandbox_counts_on_every_front_and_refuses_in_its_envelope(gateway: Gateway, front: str) -> None:
    person = Person(gateway)
    path, body = path_of(front, FREE), body_of(front, FREE)
    if front == "messages":
        # What the free plan does not have is refused before it counts.
        assert person.call("POST", path, body=body).status == 403
        return
    first = person.call("POST", path, body=body)
    assert (first.status, first.header("x-ratelimit-remaining-requests")) == (200, "19")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: person.call("POST", path, body=body), range(20)))
    assert statuses(answers) == [200] * 19 + [429]
    refused = next(answer for answer in answers if answer.status == 429)
    assert error_of(front, refused)[0] == "sandbox_limit"
    assert int(refused.header("retry-after")) >= 1


@pytest.mark.parametrize("front", FRONTS)
def test_a_limit_refuses_in_the_fronts_envelope(gateway: Gateway, front: str) -> None:
    person = Person(gateway, prepaid=False)
    limit(gateway, scope=Limit.KEY, key=person.row, kind=Limit.REQUESTS_PER_MINUTE, amount=1)
    path, body = path_of(front, FREE), body_of(front, FREE)
    assert person.call("POST", path, body=body).status == 200
    refused = person.call("POST", path, body=body)
    assert (refused.status, error_of(front, refused)[0]) == (429, "requests_per_minute")
    assert refused.header("x-ratelimit-remaining-requests") == "0"


# --- Limits of every kind ----------------------------------------------------------------------------------------


def test_a_limited_caller_s_every_answer_has_the_headers(gateway: Gateway) -> None:
    person = Person(gateway, prepaid=False)
    limit(gateway, scope=Limit.KEY, key=person.row, kind=Limit.REQUESTS_PER_MINUTE, amount=3)
    limit(gateway, scope=Limit.USER, user=person.user, kind=Limit.TOKENS_PER_DAY, amount=100_000)
    answers = [
        person.call("GET", "/v1/models"),
        person.call("GET", "/auth/me"),
        person.call("POST", CHAT, body=b"{"),
        person.ask("no/such"),
        person.ask(BROKEN),
        person.ask(),
        person.ask(stream=True),
        person.ask(),
        person.ask(),
    ]
    assert [answer.status for answer in answers] == [200, 200, 400, 404, 502, 200, 200, 200, 429]
    left = [answer.header("x-ratelimit-remaining-requests") for answer in answers]
    assert left == ["3", "3", "3", "3", "2", "2", "1", "0", "0"]
    for answer in answers:
        assert answer.header("x-ratelimit-limit-requests") == "3"
        assert answer.header("x-ratelimit-limit-tokens") == "100000"
        assert answer.header("x-ratelimit-reset-requests")[-1] == "s"
        assert answer.header("x-ratelimit-reset-tokens")[-1] == "s"
    assert answers[-1].error["code"] == "requests_per_minute"


@pytest.mark.parametrize("kind", [kind for kind, _ in Limit.KINDS])
def test_every_kind_of_limit_refuses_under_its_own_name(gateway: Gateway, kind: str) -> None:
    person = Person(gateway, prepaid=False)
    limit(gateway, scope=Limit.USER, user=person.user, kind=kind, amount=1)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(person.ask, "chaos/slow-first-byte-0.3") for _ in range(2)]
        refused = [answer for each in running if (answer := each.result()).status != 200]
    assert {(answer.status, answer.error["type"], answer.error["code"]) for answer in refused} == {
        (429, "rate_limit_exceeded", kind)
    }


def test_a_key_s_holder_can_ask_for_its_limits(gateway: Gateway) -> None:
    person = Person(gateway)
    limit(gateway, scope=Limit.KEY, key=person.row, kind=Limit.TOKENS_PER_DAY, amount=5000)
    assert person.call("GET", "/auth/me").json["limits"] == [
        {"kind": "tokens_per_day", "amount": 5000, "for": "this key"},
        {"kind": "requests_per_minute", "amount": 20, "for": "your user"},
        {"kind": "requests_per_day", "amount": 200, "for": "your user"},
    ]


def test_tokens_are_reserved_as_asked_and_counted_as_used(gateway: Gateway) -> None:
    person = Person(gateway, prepaid=False)
    limit(gateway, scope=Limit.KEY, key=person.row, kind=Limit.TOKENS_PER_MINUTE, amount=1000)
    alone = person.ask(max_tokens=1000)
    first, second = person.ask(max_tokens=900), person.ask(max_tokens=900)

    assert (alone.status, alone.error["code"], alone.header("retry-after")) == (429, "tokens_per_minute", "")
    assert (first.status, second.status) == (200, 200)
    assert int(first.header("x-ratelimit-remaining-tokens")) < 100
    used = sum(first.json["usage"][part] for part in ("prompt_tokens", "completion_tokens"))
    left = int(person.call("GET", "/v1/models").header("x-ratelimit-remaining-tokens"))
    assert left == 1000 - 2 * used
    assert person.ask().status == 200


def test_only_so_many_requests_run_at_once_streams_included(gateway: Gateway) -> None:
    person = Person(gateway, prepaid=False)
    limit(gateway, scope=Limit.ORGANIZATION, organization_id=person.row.organization_id, kind="concurrency", amount=3)
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(person.ask, "chaos/slow-first-byte-0.3") for _ in range(8)]
        answers = [each.result() for each in running]
    assert statuses(answers) == [200] * 3 + [429] * 5
    refused = next(answer for answer in answers if answer.status == 429)
    assert (refused.error["code"], refused.header("retry-after")) == ("concurrency", "1")
    assert eventually(lambda: person.ask(stream=True).status == 200, 1.0)


def test_a_client_that_leaves_gives_its_slot_back(gateway: Gateway) -> None:
    person = Person(gateway, prepaid=False)
    limit(gateway, scope=Limit.KEY, key=person.row, kind=Limit.CONCURRENCY, amount=1)
    with http.opened(
        gateway.port, "POST", CHAT, key=person.key, body=http.chat("chaos/patient-body", stream=False)
    ) as _:
        pass
    assert eventually(lambda: person.ask().status == 200, 2.0)


def test_a_model_s_limit_counts_all_callers_together_and_a_plan_s_each_organization(gateway: Gateway) -> None:
    one, other = Person(gateway, prepaid=False), Person(gateway, prepaid=False)
    limit(gateway, scope=Limit.MODEL, model_glob="chaos/repeats", kind=Limit.REQUESTS_PER_DAY, amount=3)
    assert [person.ask("chaos/repeats").status for person in (one, other) * 2] == [200, 200, 200, 429]
    assert one.ask("chaos/ok").status == 200

    pro = Plan.objects.get(slug=Plan.PRO)
    limit(gateway, scope=Limit.PLAN, plan=pro, kind=Limit.REQUESTS_PER_MINUTE, amount=2)
    subscribers = [Person(gateway), Person(gateway)]
    for person in subscribers:
        ledger.set_plan(person.row.organization_id, pro)
    for person in subscribers:
        assert [person.ask().status for _ in range(3)] == [200, 200, 429]
    Limit.objects.filter(scope__in=(Limit.PLAN, Limit.MODEL)).delete()
    gateway.follow()


# --- Redis -------------------------------------------------------------------------------------------------------


def test_with_redis_down_only_the_sandbox_is_refused(gateway: Gateway, valkey: OwnValkey) -> None:
    poor, paid, limited = Person(gateway), Person(gateway), Person(gateway, prepaid=False)
    ledger.set_plan(paid.row.organization_id, Plan.objects.get(slug=Plan.PRO))
    limit(gateway, scope=Limit.KEY, key=limited.row, kind=Limit.REQUESTS_PER_MINUTE, amount=2)
    assert gateway.call("GET", "/health").json["limits"] == "shared"
    valkey.kill()
    try:
        # Who has no limit asks nothing of Redis, so nobody notices yet.
        assert paid.ask().status == 200
        assert gateway.call("GET", "/health").json["limits"] == "shared"
        refused = poor.ask()
        assert (refused.status, refused.error["code"]) == (503, "limits_unavailable")
        assert refused.error["type"] == "service_unavailable"
        assert int(refused.header("retry-after")) >= 1
        assert paid.ask().status == 200
        assert [limited.ask().status for _ in range(3)] == [200, 200, 429]
        assert limited.ask().header("x-ratelimit-limit-requests") == "2"
        assert gateway.call("GET", "/health").json["limits"] == "local"
    finally:
        valkey.start()
    assert eventually(lambda: bool(gateway.call("GET", "/health").json["limits"] == "shared"))
    assert poor.ask().status == 200


def test_redis_learns_no_name_address_or_key(gateway: Gateway, valkey: OwnValkey) -> None:
    person = Person(gateway)
    limit(gateway, scope=Limit.KEY, key=person.row, kind=Limit.CONCURRENCY, amount=5)
    assert person.ask().status == 200
    client = valkey.client()
    held = {name: client.type(name) for name in client.scan_iter("aperture:limit:*")}
    text = " ".join(
        f"{name} {client.hgetall(name) if kind == b'hash' else client.zrange(name, 0, -1)}"
        for name, kind in held.items()
    )
    assert len(held) >= 4
    for secret in (person.user.email, person.address, person.key, person.row.display):
        assert secret not in text


# --- Keys that are not good --------------------------------------------------------------------------------------


def test_an_address_that_guesses_keys_is_refused_before_anything_is_looked_up(gateway: Gateway) -> None:
    guesser, neighbour = Person(gateway, prepaid=False), Person(gateway, prepaid=False)
    fresh = Person(gateway, prepaid=False, address=guesser.address)
    assert guesser.ask().status == 200
    tries = [guesser.call("GET", "/v1/models", key=keys.generate()) for _ in range(FAILED_KEYS + 5)]

    assert [answer.status for answer in tries] == [401] * FAILED_KEYS + [429] * 5
    assert tries[-1].error["code"] == "requests_per_minute"
    assert 50 <= int(tries[-1].header("retry-after")) <= 61
    # Known good keys pass, also after everything was forgotten; one that was never seen from here has to wait.
    assert guesser.ask().status == 200
    APIKey.objects.filter(pk=neighbour.row.pk).update(name="renamed", labels={"a": "b"})
    time.sleep(0.6)
    assert guesser.ask().status == 200
    assert fresh.ask().status == 429
    assert neighbour.ask().status == 200
    assert guesser.call("GET", "/v1/models", key="").status == 401


def test_good_keys_are_not_counted_as_guesses(gateway: Gateway) -> None:
    people = [Person(gateway, prepaid=False, address="203.0.113.200") for _ in range(FAILED_KEYS + 3)]
    assert {person.ask().status for person in people} == {200}
