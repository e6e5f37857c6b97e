"""The catalog's rows become a snapshot of what can be called, and of nothing else."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import Settings

from accounts import cipher
from catalog import credentials
from catalog.models import Price
from gateway import catalog_rows
from gateway.catalog_rows import Rows
from gateway.snapshot import Snapshot

SECRET = "up-canary-91c2b7aa"
HOST = "http://127.0.0.1:9"


def provider(row_id: int, slug: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": row_id,
        "slug": slug,
        "base_url": HOST + "/v1",
        "authorization": "bearer",
        "auth_mode": "override",
        "timeout_s": None,
        "on_disconnect": "",
        "flags": ["openai_chat"],
        "preference": 0,
        "add_headers": {},
        "forward_headers": ["OpenAI-Beta", "anthropic-beta: files-* context-1m-*"],
        "mends": False,
        "check_by": "listing",
        "source": "admin",
    } | fields


def credential(provider_id: int, name: str = "default", secret: str = SECRET, host: str = HOST) -> dict[str, Any]:
    encrypted = cipher.seal(secret, credentials.purpose(provider_id, name, host))
    seen = {"id": provider_id * 100 + len(name), "fingerprint": credentials.fingerprint(secret)}
    return {"provider_id": provider_id, "name": name, "host": host, "encrypted": encrypted} | seen


def model(row_id: int, public_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": row_id,
        "public_id": public_id,
        "name": "",
        "owner": "",
        "kind": "chat",
        "timeout_s": None,
        "listed": None,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "context_tokens": None,
        "output_tokens_max": None,
        "output_tokens_typical": 4096,
    } | fields


def target(row_id: int, model_id: int, provider_id: int, upstream_id: str = "up", **fields: Any) -> dict[str, Any]:
    plain = {"weight": 1, "preference": None}
    return {"id": row_id, "model_id": model_id, "provider_id": provider_id, "upstream_id": upstream_id} | plain | fields


def price(row_id: int, target_id: int, **fields: Any) -> dict[str, Any]:
    parts = dict.fromkeys(Price.PARTS, None) | {"input": 3, "output": 5}
    tier = {"above_context_tokens": None, "service_tier": ""}
    return {"id": row_id, "target_id": target_id, "effective": 0.0} | parts | tier | fields


def assembled(**changed: list[dict[str, Any]]) -> Snapshot:
    rows: Rows = {
        "providers": [provider(1, "openai")],
        "credentials": [credential(1)],
        "models": [model(1, "m")],
        "aliases": [],
        "targets": [target(1, 1, 1)],
        "prices": [price(1, 1)],
        "grants": [],
        "limits": [],
        "spending_limits": [],
        "standings": [],
    }
    return catalog_rows.assemble(7, rows | changed, now=1.0)


def test_a_plain_catalog() -> None:
    view = assembled(aliases=[{"name": "nick", "model_id": 1}])
    assert set(view.names) == {"m", "nick", "openai/up", "openai/m", "up"}
    (only,) = view.models[0].targets
    assert only.provider.headers == {"openai_chat": {"Authorization": f"Bearer {SECRET}"}}
    assert only.provider.secrets == (SECRET,)
    assert view.models[0].listed


@pytest.mark.parametrize(
    "gone",
    [
        {"providers": []},
        {"targets": []},
        {"models": []},
        {"providers": [provider(1, "openai", flags=["bedrock_converse"])]},
        {"credentials": [credential(2) | {"provider_id": 1}]},
        {"credentials": [credential(1) | {"encrypted": b"rubbish"}]},
        {"providers": [provider(1, "openai", add_headers=[])]},
    ],
    ids=["provider", "target", "model", "dialect", "another's credential", "unreadable credential", "headers"],
)
def test_what_cannot_be_called_is_not_there(gone: dict[str, Any]) -> None:
    view = assembled(**gone)
    assert view.models == ()
    assert view.names == {}


@pytest.mark.parametrize(
    ("authorization", "headers"),
    [
        ("bearer", {"Authorization": f"Bearer {SECRET}"}),
        ("x-api-key", {"x-api-key": SECRET}),
        ("x-goog-api-key", {"x-goog-api-key": SECRET}),
    ],
)
def test_the_credential_is_shown_as_the_provider_wants_it(authorization: str, headers: dict[str, str]) -> None:
    def headers_of(**fields: Any) -> dict[str, str]:
        rows = [provider(1, "openai", authorization=authorization, add_headers={"x-team": 7}, **fields)]
        return dict(assembled(providers=rows).models[0].targets[0].provider.headers["openai_chat"])

    assert headers_of() == {"x-team": "7"} | headers
    assert headers_of(auth_mode="none") == {"x-team": "7"}
    # Bound to another host: never sent there.
    assert headers_of(base_url="http://127.0.0.2:9") == {"x-team": "7"}


def test_a_vendor_is_shown_its_key_as_each_dialect_wants_it() -> None:
    rows = [provider(1, "anthropic", flags=["anthropic_messages", "openai_chat", "bedrock_converse"])]
    only = assembled(providers=rows).models[0].targets[0].provider
    assert only.flags == ("anthropic_messages", "openai_chat")
    assert only.headers == {
        "anthropic_messages": {"x-api-key": SECRET},
        "openai_chat": {"Authorization": f"Bearer {SECRET}"},
    }


def test_the_headers_that_go_on_are_the_operator_s_list() -> None:
    forwarded = assembled().models[0].targets[0].provider.forwarded
    assert set(forwarded) == {b"openai-beta", b"anthropic-beta"}
    assert forwarded[b"openai-beta"].of("a, b") == "a, b"
    assert forwarded[b"anthropic-beta"].of("files-api-1, other, context-1m-2026") == "files-api-1,context-1m-2026"
    assert forwarded[b"anthropic-beta"].of("other") == ""


def test_the_first_credential_is_sent_and_all_of_them_are_hidden() -> None:
    found = assembled(credentials=[credential(1), credential(1, "second", "other-secret")])
    built = found.models[0].targets[0].provider
    assert built.headers["openai_chat"]["Authorization"] == f"Bearer {SECRET}"
    assert set(built.secrets) == {SECRET, "other-secret"}


def test_a_target_s_own_preference_wins_over_its_provider_s() -> None:
    view = assembled(
        providers=[provider(1, "a", preference=5), provider(2, "b"), provider(3, "c", preference=9)],
        targets=[target(1, 1, 1), target(2, 1, 2, preference=7), target(3, 1, 3, preference=0)],
        credentials=[],
    )
    assert [(each.provider.slug, each.preference) for each in view.models[0].targets] == [("b", 7), ("a", 5), ("c", 0)]


def test_a_model_s_timeout_wins_over_its_provider_s() -> None:
    slow = [provider(1, "openai", timeout_s=30.0)]
    assert assembled(providers=slow).models[0].targets[0].timeout_s == 30.0
    assert assembled(providers=slow, models=[model(1, "m", timeout_s=5.0)]).models[0].targets[0].timeout_s == 5.0
    assert assembled().models[0].targets[0].timeout_s is None


@pytest.mark.parametrize(
    ("listed", "second_id", "shown"),
    [(None, "vendor/Up", True), (None, "other", False), (True, "other", True), (False, "up", False)],
)
def test_a_composite_is_listed_only_when_somebody_says_so(listed: bool | None, second_id: str, shown: bool) -> None:
    view = assembled(models=[model(1, "m", listed=listed)], targets=[target(1, 1, 1), target(2, 1, 1, second_id)])
    assert view.models[0].listed is shown
    assert "m" in view.names


def test_in_resale_only_what_has_a_price_can_be_called(settings: Settings) -> None:
    changed: dict[str, Any] = {
        "models": [model(1, "m"), model(2, "free")],
        "targets": [target(1, 1, 1), target(2, 1, 1, "unpriced"), target(3, 2, 1, "unpriced")],
    }
    settings.MODE = "team"
    assert [each.public_id for each in assembled(**changed).models] == ["free", "m"]
    settings.MODE = "resale"
    (only,) = assembled(**changed).models
    assert [each.upstream_id for each in only.targets] == ["up"]
    assert "free" not in assembled(**changed).names


def test_a_part_without_a_rate_costs_what_its_parent_does() -> None:
    (bare,) = assembled().models[0].targets[0].prices
    assert {bare.cache_read, bare.cache_write_5m, bare.cache_write_1h, bare.audio_input, bare.image_input} == {3}
    assert (bare.reasoning, bare.audio_output, bare.web_search) == (5, 5, 0)
    (written,) = assembled(prices=[price(1, 1, cache_write_5m=4)]).models[0].targets[0].prices
    assert (written.cache_write_5m, written.cache_write_1h) == (4, 4)
    (free,) = assembled(prices=[price(1, 1, cache_read=0, reasoning=0)]).models[0].targets[0].prices
    assert (free.cache_read, free.reasoning) == (0, 0)


def test_a_tier_goes_along_and_cannot_be_sold_alone(settings: Any) -> None:
    settings.MODE = "resale"
    long = price(2, 1, above_context_tokens=200_000, input=6)
    flex = price(3, 1, service_tier="flex", input=1)
    assert assembled(prices=[long, flex]).models == ()
    prices = assembled(prices=[long, flex, price(1, 1)]).models[0].targets[0].prices
    assert [(each.above_context_tokens, each.service_tier) for each in prices] == [
        (200_000, ""),
        (None, "flex"),
        (None, ""),
    ]


def test_grants_are_taken_as_they_are_and_unreadable_ones_left_out(caplog: pytest.LogCaptureFixture) -> None:
    good = {"subjects": ["everyone"], "role": "user", "model_globs": ["**"], "add_headers": {"x": 1}, "quotas": ["q"]}
    view = assembled(grants=[good, good | {"add_headers": "x"}])
    assert [(grant.add_headers, grant.quotas) for grant in view.grants] == [({"x": "1"}, ("q",))]
    assert "left out" in caplog.text


def standing(provider_id: int = 1, **fields: Any) -> dict[str, Any]:
    plain = {"credential_id": None, "target_id": None, "basis": HOST + "/v1", "state": "down", "trusted_until": 60.0}
    return {"provider_id": provider_id} | plain | fields


def outs(**changed: list[dict[str, Any]]) -> list[str]:
    targets = [target(1, 1, 1), target(2, 1, 2)]
    both = [provider(1, "openai"), provider(2, "other")]
    rows = {"providers": both, "targets": targets, "credentials": [credential(1), credential(2)]} | changed
    return [each.out for each in assembled(**rows).models[0].targets]


def test_the_targets_of_a_provider_that_is_down_are_out() -> None:
    assert outs() == ["", ""]
    assert outs(standings=[standing()]) == ["down", ""]
    assert outs(standings=[standing(2, state="refused")]) == ["", "refused"]
    assert outs(standings=[standing(target_id=2, provider_id=2, basis="up")]) == ["", "down"]


@pytest.mark.parametrize(
    "changed",
    [
        {"standings": [standing(basis="http://127.0.0.1:8")]},
        {"standings": [standing(trusted_until=1.0)]},
        {"standings": [standing(target_id=1, basis="another id")]},
        {"standings": [standing()], "providers": [provider(1, "openai", check_by="off"), provider(2, "other")]},
    ],
    ids=["another address", "nobody renewed it", "another upstream id", "checks are off"],
)
def test_a_state_that_says_nothing_of_now_keeps_nothing_out(changed: dict[str, Any]) -> None:
    assert outs(**changed) == ["", ""]


def test_a_credential_that_is_refused_is_used_last_until_it_is_another() -> None:
    rows = [credential(1, "a", "secret-a"), credential(1, "bb", "secret-bb")]
    refused = standing(credential_id=rows[0]["id"], basis=rows[0]["fingerprint"], state="refused")

    def secrets(state: dict[str, Any]) -> tuple[str, ...]:
        return assembled(credentials=rows, standings=[state]).models[0].targets[0].provider.secrets

    assert secrets(refused) == ("secret-bb", "secret-a")
    assert secrets(refused | {"basis": "another"}) == ("secret-a", "secret-bb")


def test_memory_turns_when_a_price_begins_and_when_a_state_lapses() -> None:
    prices = [price(1, 1), price(2, 1, effective=90.0)]
    rows: Rows = {"prices": prices, "standings": [standing(), standing(2, trusted_until=30.0)]}
    assert catalog_rows.next_turn_at(rows, 1.0) == 30.0
    assert catalog_rows.next_turn_at(rows, 30.0) == 60.0
    assert catalog_rows.next_turn_at(rows, 60.0) == 90.0
    assert catalog_rows.next_turn_at(rows, 90.0) == float("inf")
