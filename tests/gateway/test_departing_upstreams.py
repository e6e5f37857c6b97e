"""A provider that fails its checks leaves a running server's plan within one interval, and comes back by itself."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connections
from django.utils import timezone

from accounts.models import User
from catalog import credentials, health
from catalog.models import Model, Provider, Standing, StandingChange, Target
from gateway import alarms, checks, upstreams
from tests.gateway import http
from tests.gateway.conftest import Gateway
from tests.local_server import Asked, Reply, serving

pytestmark = pytest.mark.server

SECRET = "up-canary-7a11c0"
INTERVAL_S = 1
CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "OK"}, "finish_reason": "stop"}]}


class Upstream:
    """One of two that serve the model `pair`; it can be broken and mended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.broken = threading.Event()

    def answer(self, asked: Asked) -> Reply:
        if self.broken.is_set():
            return Reply(503, {"error": {"message": "Overloaded"}})
        if asked.method == "GET":
            return Reply(body={"data": [{"id": "pair"}]})
        return Reply(body=CHAT | {"model": self.name, "usage": {"prompt_tokens": 3, "completion_tokens": 1}})


@pytest.fixture(scope="module")
def pair(gateway: Gateway) -> Iterator[tuple[Upstream, Upstream]]:
    first, second = Upstream("first"), Upstream("second")
    with serving(first.answer) as one, serving(second.answer) as other:
        model = Model.objects.create(public_id="pair")
        for place, (upstream, server) in enumerate(((first, one), (second, other))):
            provider = Provider.objects.create(
                slug=upstream.name, base_url=server.url, preference=-place, check_interval_s=INTERVAL_S
            )
            credentials.store(provider, SECRET)
            Target.objects.create(model=model, provider=provider, upstream_id="pair")
        Provider.objects.exclude(slug__in=["first", "second"]).update(check_by=Provider.OFF)
        gateway.follow()
        yield first, second


def served_by(gateway: Gateway) -> str:
    """Return who answers a request for the model, or the status of its refusal."""
    answer = gateway.call("POST", "/v1/chat/completions", body=http.chat("pair"))
    if answer.status != 200:
        return str(answer.status)
    rows = gateway.installed.query(
        "SELECT slug FROM billing_usage AS used JOIN catalog_provider AS provider ON provider.id = used.provider_id "
        "WHERE model = 'pair' ORDER BY used.created_at DESC LIMIT 1"
    )
    return str(rows[0]["slug"])


def version(gateway: Gateway) -> int:
    return int(gateway.installed.query("SELECT catalog FROM accounts_version")[0]["catalog"])


def run_until(condition: Callable[[], bool], within_s: float = 8) -> None:
    """Run the checks as the schedule does until something is so."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        checks.run_due(timezone.now())
        time.sleep(0.1)


def states() -> dict[str, str]:
    rows = Standing.objects.filter(target=None, credential=None, provider__slug__in=["first", "second"])
    return dict(rows.values_list("provider__slug", "state"))


def test_down_leaves_the_plan_and_comes_back_without_a_restart(
    gateway: Gateway, pair: tuple[Upstream, Upstream]
) -> None:
    User.objects.create_user("operator@example.com", is_staff=True)
    first, _ = pair
    run_until(lambda: states() == {"first": health.UP, "second": health.UP})
    assert served_by(gateway) == "first"
    before = version(gateway)
    first.broken.set()
    run_until(lambda: states()["first"] == health.DOWN)
    failing, down = StandingChange.objects.filter(
        standing__provider__slug="first", after__in=(health.FAILING, health.DOWN)
    ).order_by("pk")
    # This loop may be late itself.
    assert (down.at - failing.at).total_seconds() < INTERVAL_S + 1.5
    # What the process has in memory is never older than a second.
    gateway.follow()
    assert served_by(gateway) == "second"
    assert version(gateway) == before + 1
    assert states() == {"first": health.DOWN, "second": health.UP}
    assert [alarms.tell(timezone.now()) for _ in range(3)] == [1, 0, 0]

    first.broken.clear()
    run_until(lambda: served_by(gateway) == "first")
    assert states()["first"] == health.UP
    assert version(gateway) == before + 2
    assert [message.subject for message in mail.outbox] == ["Aperture: first is down"]
    connections.close_all()


def test_where_all_are_down_the_best_is_tried_as_the_probe(gateway: Gateway, pair: tuple[Upstream, Upstream]) -> None:
    for upstream in pair:
        upstream.broken.set()
    run_until(lambda: set(states().values()) == {health.DOWN})
    gateway.follow()
    assert served_by(gateway) == "502"
    pair[0].broken.clear()
    # No check has seen that it is back.
    assert served_by(gateway) == "first"
    pair[1].broken.clear()
    run_until(lambda: set(states().values()) == {health.UP})
    gateway.follow()
    connections.close_all()


def test_a_state_that_nobody_renews_lets_its_provider_back_into_the_plan(
    gateway: Gateway, pair: tuple[Upstream, Upstream]
) -> None:
    until = timezone.now() + timedelta(seconds=2)
    Standing.objects.filter(provider__slug="first", credential=None, target=None).update(
        state=health.DOWN, trusted_until_at=until
    )
    gateway.follow()
    assert served_by(gateway) == "second"
    deadline = time.monotonic() + 5
    while served_by(gateway) != "first" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert timezone.now() >= until
    assert served_by(gateway) == "first"
    run_until(lambda: states()["first"] == health.UP)
    connections.close_all()


def test_health_tells_the_keyless_the_numbers_and_a_key_the_names(
    gateway: Gateway, pair: tuple[Upstream, Upstream]
) -> None:
    time.sleep(upstreams.KEPT_S + 0.1)
    anonymous = gateway.call("GET", "/health?verbose=1", key="").json["upstreams"]
    assert anonymous == {"off": Provider.objects.count() - 2, "up": 2}
    named = gateway.call("GET", "/health?verbose=1").json["upstreams"]
    [first] = [each for each in named if each["provider"] == "first"]
    assert set(first) == {"provider", "state", "since", "checked", "latency_ms", "uptime"}
    assert first["state"] == health.UP
    assert 0 < first["uptime"]["24h"] < 1
    limited = gateway.call("GET", "/health?verbose=1", key=gateway.installed.keys["bob"]).json["upstreams"]
    assert [each["provider"] for each in limited] == ["chaos"]
    assert SECRET not in str(named)
    connections.close_all()


def test_a_wrong_key_is_answered_as_none_is(gateway: Gateway, pair: tuple[Upstream, Upstream]) -> None:
    answer = gateway.call("GET", "/health?verbose=1", key="sg-" + "x" * 36)
    assert answer.status == 200
    assert isinstance(answer.json["upstreams"], dict)
