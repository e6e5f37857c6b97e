"""The API of quotas: who sees what, who may refill, and what every refusal looks like."""

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import APIKey, Grant, Group, User
from billing.models import Bucket, SpendingLimit

pytestmark = pytest.mark.django_db

DOLLAR = 10**9
READ, WRITE = "billing:read", "billing:write"


class Caller:
    """Somebody with a key."""

    def __init__(self, name: str, *scopes: str, **about: Any) -> None:
        self.user = User.objects.ensure(f"{name}@example.com")
        self.row, self.key = keys.mint(user=self.user, **about)
        APIKey.objects.filter(pk=self.row.pk).update(scopes=list(scopes))

    def get(self, path: str = "") -> Any:
        return Client().get(f"/api/quotas{path}", HTTP_AUTHORIZATION=f"Bearer {self.key}")

    def refill(self, **body: Any) -> Any:
        return self.post(json.dumps(body))

    def post(self, body: str, **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {self.key}"} | headers
        return Client().post("/api/quotas/refill", body, "application/json", headers=sent)


@pytest.fixture
def people() -> dict[str, Caller]:
    """Alice is an admin by grant, Bob a user, Charlie has no role."""
    cache.clear()
    found = {name: Caller(name, READ, WRITE) for name in ("alice", "bob", "charlie")}
    Grant.objects.create(subjects=["user:alice@example.com"], role=Grant.ADMIN)
    Grant.objects.create(subjects=["user:Bob@example.com"], role=Grant.USER, quotas=["daily-<user>"])
    daily = SpendingLimit.objects.create(name="daily-<user>", capacity_nanos=5 * DOLLAR, rate_nanos=0)
    for name in ("alice", "bob"):
        Bucket.objects.create(limit=daily, subject=f"user:{found[name].user.pk}", spent_nanos=4 * DOLLAR)
    SpendingLimit.objects.create(name="team", kind="calendar", capacity_nanos=9 * DOLLAR, subject="group:team")
    return found


def names(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [each["name"] for each in answer.json()["buckets"]]


def refusal(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert body["request_id"] == answer["x-aperture-request-id"]
    assert body["error"]["message"]
    assert body["error"]["type"]
    return answer.status_code, body["error"]["code"]


def test_a_caller_sees_the_buckets_of_its_own_requests(people: dict[str, Caller]) -> None:
    assert names(people["bob"].get()) == ["daily-bob@example.com"]
    group = Group.objects.create(name="team")
    group.members.add(people["bob"].user)
    shown = people["bob"].get().json()["buckets"]
    assert [each["name"] for each in shown] == ["daily-bob@example.com", "team"]
    assert shown[0] == {
        "name": "daily-bob@example.com", "limit": "daily-<user>", "kind": "quota", "current": DOLLAR,
        "capacity": 5 * DOLLAR, "spent": 4 * DOLLAR, "held": 0, "rate": 0, "period": "day", "hard": True,
        "full_at": None,
    }  # fmt: skip
    assert (shown[1]["kind"], shown[1]["current"], shown[1]["spent"]) == ("budget", 9 * DOLLAR, 0)


def test_an_admin_sees_all(people: dict[str, Caller]) -> None:
    assert names(people["alice"].get()) == ["daily-alice@example.com", "daily-bob@example.com", "team"]


def test_why_everything_is_refused_is_told(people: dict[str, Caller]) -> None:
    Grant.objects.create(subjects=["everyone"], quotas=["missing"])
    answer = people["bob"].get().json()
    assert "'missing'" in answer["problem"]
    assert answer["buckets"] == []


def test_others_buckets_do_not_exist(people: dict[str, Caller]) -> None:
    assert people["bob"].get("/daily-bob@example.com").json()["current"] == DOLLAR
    for name in ("daily-alice@example.com", "team", "nothing"):
        assert refusal(people["bob"].get(f"/{name}")) == (404, "not_found")
    assert people["alice"].get("/team").status_code == 200


def test_without_a_role_or_a_key_there_is_nothing(people: dict[str, Caller]) -> None:
    assert refusal(people["charlie"].get()) == (403, "no_role_granted")
    assert refusal(people["charlie"].refill(bucket="team")) == (403, "no_role_granted")
    assert refusal(Client().get("/api/quotas")) == (401, "invalid_api_key")
    people["bob"].row.revoke(timezone.now())
    assert refusal(people["bob"].get()) == (401, "invalid_api_key")


def test_an_admin_refills_and_it_is_logged(people: dict[str, Caller]) -> None:
    answer = people["alice"].refill(bucket="daily-bob@example.com", amount="$1.50", reason="release week")
    assert (answer.status_code, answer.json()["refilled"]) == (200, 3 * DOLLAR // 2)
    assert answer.json()["bucket"]["current"] == 5 * DOLLAR // 2
    answer = people["alice"].refill(bucket="daily-BOB@example.com", amount="100")
    assert answer.json()["bucket"]["current"] == 5 * DOLLAR
    assert people["alice"].refill(bucket="daily-bob@example.com").json()["refilled"] == 0
    entry = LogEntry.objects.order_by("pk")[0]
    assert entry.user == people["alice"].user
    assert entry.change_message == "Refilled daily-bob@example.com by $1.50 by API. release week"
    assert Bucket.objects.get(subject=f"user:{people['alice'].user.pk}").spent_nanos == 4 * DOLLAR


def test_a_bucket_that_nobody_has_used_is_full_already(people: dict[str, Caller]) -> None:
    for name in ("team", "daily-charlie@example.com"):
        answer = people["alice"].refill(bucket=name)
        assert (answer.status_code, answer.json()["refilled"]) == (200, 0)


@pytest.mark.parametrize(
    "name", ["nothing", "daily-", "daily-nobody@example.com", "daily-<user>", "xdaily-bob@example.com"]
)
def test_what_cannot_be_refilled_is_a_404(people: dict[str, Caller], name: str) -> None:
    assert refusal(people["alice"].refill(bucket=name)) == (404, "not_found")


@pytest.mark.parametrize(
    "body", [{}, {"bucket": ""}, {"bucket": "team", "amount": "0"}, {"bucket": "team", "amount": "-1"},
             {"bucket": "team", "amount": "much"}, {"bucket": "team", "amuont": "1"}],
)  # fmt: skip
def test_a_wrong_body_is_a_400(people: dict[str, Caller], body: dict[str, str]) -> None:
    assert refusal(people["alice"].refill(**body)) == (400, "invalid_parameter")


def test_a_repeated_refill_is_done_once(people: dict[str, Caller]) -> None:
    body = json.dumps({"bucket": "daily-bob@example.com", "amount": "1"})
    for _ in range(2):
        assert people["alice"].post(body, **{"Idempotency-Key": "once"}).json()["refilled"] == DOLLAR
    assert Bucket.objects.get(subject=f"user:{people['bob'].user.pk}").spent_nanos == 3 * DOLLAR


def test_a_user_may_not_refill_not_even_its_own(people: dict[str, Caller]) -> None:
    assert refusal(people["bob"].refill(bucket="daily-bob@example.com")) == (403, "role_required")
    assert refusal(people["bob"].refill(bucket="nothing")) == (403, "role_required")


@pytest.mark.parametrize(
    ("scopes", "reads", "writes"),
    [
        ((), True, False),
        ((READ,), True, False),
        ((WRITE,), False, True),
        ((READ, WRITE), True, True),
        (("inference",), False, False),
    ],
)
def test_both_apis_of_money_take_the_same_scopes(
    people: dict[str, Caller], scopes: tuple[str, ...], reads: bool, writes: bool
) -> None:
    caller = Caller("alice", *scopes)
    headers = {"Authorization": f"Bearer {caller.key}"}
    balance = Client().get("/api/billing/balance", headers=headers)
    settings = Client().patch("/api/billing/settings", '{"low_balance_nanos": 5}', "application/json", headers=headers)
    for allowed, answers in ((reads, (balance, caller.get())), (writes, (settings, caller.refill(bucket="team")))):
        for answer in answers:
            if allowed:
                assert answer.status_code == 200
            else:
                assert refusal(answer) == (403, "scope_required")


def test_the_scope_does_not_stand_for_the_role(people: dict[str, Caller]) -> None:
    assert refusal(Caller("bob", WRITE).refill(bucket="team")) == (403, "role_required")


def test_a_key_s_label_counts_and_its_networks_too(people: dict[str, Caller]) -> None:
    SpendingLimit.objects.create(name="search", capacity_nanos=1, subject="tag:team=search")
    labelled = Caller("bob", labels={"team": "search"})
    assert names(labelled.get()) == ["daily-bob@example.com", "search"]
    far = Caller("bob")
    APIKey.objects.filter(pk=far.row.pk).update(ip_allowlist=["10.9.0.0/16"])
    assert refusal(far.get()) == (403, "ip_restricted")


def test_a_browser_s_session(people: dict[str, Caller]) -> None:
    def browser(user: User) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    assert names(browser(people["bob"].user).get("/api/quotas")) == ["daily-bob@example.com"]
    operator = User.objects.create_superuser("operator@example.com", "a long password of the operator")
    assert len(names(browser(operator).get("/api/quotas"))) == 3
    without_token = browser(operator).post("/api/quotas/refill", {"bucket": "team"}, "application/json")
    assert refusal(without_token) == (403, "csrf_failed")
    clerk = User.objects.create_user("clerk@example.com", is_staff=True)
    assert refusal(browser(clerk).get("/api/quotas")) == (403, "no_role_granted")


def test_other_methods_are_refused_by_name(people: dict[str, Caller]) -> None:
    answer = Client().delete("/api/quotas", HTTP_AUTHORIZATION=f"Bearer {people['alice'].key}")
    assert refusal(answer) == (405, "method_not_allowed")
