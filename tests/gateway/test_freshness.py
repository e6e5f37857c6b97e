"""What is in memory is never more than a second old, and a process that cannot know says so."""

import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.utils import timezone

from accounts.models import APIKey, Grant, Group, Organization, User
from catalog.models import Credential, Model, Price, Provider, Target
from gateway import catalog_rows, freshness
from gateway.authentication import authenticate
from gateway.callers import Callers
from gateway.errors import Fault
from gateway.freshness import Freshness
from gateway.runtime import Runtime
from gateway.snapshot import Caller
from tests.installation import Installation, populate
from tests.wire import eventually, orm, own_connection, sql, wired

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.server]


@pytest.fixture
def installation(transactional_db: None) -> Installation:
    return populate()


@contextlib.asynccontextmanager
async def kept() -> AsyncIterator[Freshness]:
    """Memory that is kept fresh, confirmed once."""
    kept_fresh = Freshness(Callers())
    kept_fresh.start()
    try:
        assert await kept_fresh.wait(5)
        yield kept_fresh
    finally:
        await kept_fresh.stop()
        await kept_fresh.callers.close()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Runtime]:
    runtime = Runtime()
    runtime.start()
    try:
        assert await runtime.freshness.wait(5)
        yield runtime
    finally:
        await runtime.stop()


async def call(runtime: Runtime, key: str) -> Caller:
    scope = {"query_string": b"", "client": ("127.0.0.1", 1), "headers": []}
    return await authenticate(runtime, scope, {b"authorization": b"Bearer " + key.encode()})


async def outcome(runtime: Runtime, key: str) -> str:
    """Return how a request with this key fares: accepted, or the code of its refusal."""
    try:
        await call(runtime, key)
    except Fault as fault:
        return fault.code
    return "accepted"


# --- Dead keys ------------------------------------------------------------------------------------------------------

KILLS: dict[str, Callable[[Installation], Any]] = {
    "revoked by the ORM": lambda all: all.key.revoke(timezone.now()),
    "revoked in bulk": lambda all: APIKey.objects.all().update(revoked_at=timezone.now()),
    "expired": lambda all: APIKey.objects.filter(pk=all.key.pk).update(expires_at=timezone.now() - timedelta(days=1)),
    "deleted": lambda all: all.key.delete(),
    "given another digest": lambda all: APIKey.objects.filter(pk=all.key.pk).update(digest=b"x" * 32),
    "its user deactivated": lambda all: User.objects.filter(pk=all.bob.pk).update(is_active=False),
    "its organization deactivated": lambda all: Organization.objects.update(is_active=False),
}
KILLING_STATEMENTS = {
    "revoked by SQL": "UPDATE accounts_apikey SET revoked_at = now()",
    "user deactivated by SQL": "UPDATE accounts_user SET is_active = false",
    "organization deactivated by SQL": "UPDATE accounts_organization SET is_active = false",
    "deleted by SQL": "DELETE FROM accounts_apikey",
    "truncated": "TRUNCATE accounts_apikey CASCADE",
}


async def refused_after_s(runtime: Runtime, key: str) -> float:
    async def refused() -> bool:
        return await outcome(runtime, key) in ("invalid_api_key", "api_key_expired")

    return await eventually(refused, 2)


@pytest.mark.parametrize("way", KILLS)
async def test_a_dead_key_is_refused_within_a_second(installation: Installation, way: str) -> None:
    async with serving() as runtime:
        assert await outcome(runtime, installation.clear_key) == "accepted"
        await orm(lambda: KILLS[way](installation))
        assert await refused_after_s(runtime, installation.clear_key) < 1


@pytest.mark.parametrize("way", KILLING_STATEMENTS)
async def test_a_key_killed_by_plain_sql_is_refused_within_a_second(installation: Installation, way: str) -> None:
    async with serving() as runtime:
        assert await outcome(runtime, installation.clear_key) == "accepted"
        await sql(KILLING_STATEMENTS[way])
        assert await refused_after_s(runtime, installation.clear_key) < 1


async def test_ten_revocations_take_a_fraction_of_a_second(installation: Installation) -> None:
    times = []
    async with serving() as runtime:
        for _ in range(10):
            await sql("UPDATE accounts_apikey SET revoked_at = NULL")

            async def accepted() -> bool:
                return await outcome(runtime, installation.clear_key) == "accepted"

            await eventually(accepted, 2)
            await sql("UPDATE accounts_apikey SET revoked_at = now()")
            times.append(await refused_after_s(runtime, installation.clear_key))
    print(f"refused after {statistics.median(times):.3f} s in the median, {max(times):.3f} s at most")
    assert max(times) < 1


async def test_a_key_that_expires_by_the_clock_needs_no_change_of_the_database(installation: Installation) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.4)
    await orm(lambda: APIKey.objects.filter(pk=installation.key.pk).update(expires_at=soon))
    async with serving() as runtime:
        assert await outcome(runtime, installation.clear_key) == "accepted"
        assert await refused_after_s(runtime, installation.clear_key) < 1
        assert await outcome(runtime, installation.clear_key) == "api_key_expired"


async def test_a_change_of_groups_reaches_the_caller_s_subjects_within_a_second(installation: Installation) -> None:
    async with serving() as runtime:
        assert "group:research" in (await call(runtime, installation.clear_key)).subjects
        changes: list[tuple[Callable[[], Any], str, bool]] = [
            (lambda: installation.group.members.remove(installation.bob), "group:research", False),
            (lambda: installation.group.members.add(installation.bob), "group:research", True),
            (lambda: Group.objects.update(name="science"), "group:science", True),
            (lambda: APIKey.objects.update(labels={"team": "red"}), "tag:team=red", True),
            (
                lambda: User.objects.filter(pk=installation.bob.pk).update(email="b@example.com"),
                "user:b@example.com",
                True,
            ),
        ]
        for change, subject, there in changes:
            await orm(change)

            async def seen(subject: str = subject, there: bool = there) -> bool:
                return (subject in (await call(runtime, installation.clear_key)).subjects) is there

            assert await eventually(seen, 2) < 1


# --- The catalog ----------------------------------------------------------------------------------------------------


async def test_each_change_of_the_catalog_reaches_the_snapshot_within_a_second(installation: Installation) -> None:
    changes: list[tuple[str, Callable[[Freshness], bool]]] = [
        ("UPDATE accounts_grant SET role = 'admin'", lambda kept: kept.snapshot.grants[0].role == "admin"),
        (
            "INSERT INTO catalog_alias (name, model_id) SELECT 'nick', id FROM catalog_model",
            lambda kept: "nick" in kept.snapshot.names,
        ),
        (
            "INSERT INTO catalog_price (target_id, effective_at, service_tier, input, output, source, created_at) "
            "SELECT id, now(), '', 5, 5, 'operator', now() FROM catalog_target",
            lambda kept: kept.snapshot.models[0].targets[0].prices[0].input == 5,
        ),
        ("DELETE FROM catalog_credential", lambda kept: not kept.snapshot.models[0].targets[0].provider.secrets),
        ("UPDATE catalog_provider SET slug = 'o'", lambda kept: "o/gpt-4o" in kept.snapshot.names),
        ("UPDATE catalog_target SET upstream_id = 'u'", lambda kept: "o/u" in kept.snapshot.names),
        ("UPDATE catalog_provider SET enabled = false", lambda kept: kept.snapshot.models == ()),
        ("UPDATE catalog_provider SET enabled = true", lambda kept: len(kept.snapshot.models) == 1),
        ("UPDATE catalog_model SET enabled = false", lambda kept: kept.snapshot.names == {}),
        ("TRUNCATE accounts_grant", lambda kept: kept.snapshot.grants == ()),
    ]
    async with kept() as memory:
        for statement, reached in changes:
            await sql(statement)

            async def seen(reached: Callable[[Freshness], bool] = reached) -> bool:
                return reached(memory)

            assert await eventually(seen, 2) < 1, statement


async def test_without_notifications_polling_alone_is_quick_enough(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing_heard(_raw: psycopg.AsyncConnection) -> None:
        raise OSError

    async with kept() as memory:
        with monkeypatch.context() as deaf:
            deaf.setattr(freshness, "_notified", nothing_heard)
            before = memory.snapshot
            await sql("UPDATE accounts_grant SET role = 'admin'")

            async def seen() -> bool:
                return memory.snapshot is not before

            assert await eventually(seen, 2) < 1


async def test_at_rest_the_snapshot_stays_and_nothing_is_forgotten(installation: Installation) -> None:
    async with serving() as runtime:
        await call(runtime, installation.clear_key)
        before, known = runtime.freshness.snapshot, dict(runtime.callers.known)
        await sql("UPDATE accounts_apikey SET last_used_at = now()")
        await sql("UPDATE accounts_user SET last_login = now(), name = 'x'")
        confirmed_at = runtime.freshness.confirmed_at

        async def confirmed_again() -> bool:
            return runtime.freshness.confirmed_at > confirmed_at + 0.5

        await eventually(confirmed_again, 3)
        assert runtime.freshness.snapshot is before
        assert runtime.callers.known == known


# --- The database away ----------------------------------------------------------------------------------------------


async def unavailable(runtime: Runtime, key: str) -> bool:
    return await outcome(runtime, key) == "storage_unavailable"


async def recovered(runtime: Runtime, key: str) -> bool:
    return await outcome(runtime, key) == "accepted"


@pytest.mark.parametrize("way", ["silent", "refusing"])
async def test_without_the_database_requests_get_503_within_two_seconds_and_recover_by_themselves(
    installation: Installation, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "QUERY_TIMEOUT_S", 0.5)
    key = installation.clear_key
    async with wired() as wire, serving() as runtime:
        assert await outcome(runtime, key) == "accepted"
        went_at = time.monotonic()
        wire.freeze() if way == "silent" else wire.cut(refuse=True)
        await eventually(lambda: unavailable(runtime, key), 4)
        assert runtime.freshness.stale()
        assert time.monotonic() - went_at < 3
        assert runtime.freshness.confirmed_at < went_at + 0.05
        wire.refusing = False
        wire.thaw()
        assert await eventually(lambda: recovered(runtime, key), 5) < 3


async def test_a_terminated_backend_is_replaced_before_anybody_notices(installation: Installation) -> None:
    async with serving() as runtime:
        for _ in range(3):
            await call(runtime, installation.clear_key)
            await sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'aperture-%%'"
                " AND datname = current_database()"
            )
            assert await outcome(runtime, installation.clear_key) == "accepted"
            await sql("UPDATE accounts_apikey SET name = name")


async def test_many_who_ask_while_the_database_is_away_make_few_tries(installation: Installation) -> None:
    async with wired() as wire, serving() as runtime:
        wire.cut(refuse=True)
        await eventually(lambda: unavailable(runtime, installation.clear_key), 4)
        tries = 0
        real = runtime.freshness.connection.opened

        async def counted() -> psycopg.AsyncConnection:
            nonlocal tries
            tries += 1
            return await real()

        runtime.freshness.connection.opened = counted  # type: ignore[method-assign]
        ends_at = time.monotonic() + 0.5
        while time.monotonic() < ends_at:
            await runtime.freshness.wait(0.005)
        assert tries < 12


# --- Rows that only SQL by hand writes ------------------------------------------------------------------------------


async def test_one_unreadable_row_takes_nothing_else_along(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil() -> None:
        for slug in ("badheaders", "badway"):
            provider = Provider.objects.create(slug=slug, base_url="http://127.0.0.1:9")
            Target.objects.create(model=installation.model, provider=provider, upstream_id="x")
        Provider.objects.filter(slug="badheaders").update(add_headers=["x"])
        other = Provider.objects.get(slug="badway")
        from catalog import credentials

        credentials.store(other, "secret-of-the-other")
        Provider.objects.filter(slug="badway").update(authorization="smoke")
        Grant.objects.create(subjects=["everyone"], role="admin", add_headers=[1])

    await orm(spoil)
    async with kept() as memory:
        (model,) = memory.snapshot.models
        assert [target.provider.slug for target in model.targets] == ["openai"]
        assert [grant.role for grant in memory.snapshot.grants] == ["user"]
    assert "badheaders is left out" in caplog.text
    assert "badway is left out" in caplog.text
    assert "secret-of-the-other" not in caplog.text


async def test_a_credential_that_does_not_open_leaves_its_provider_out(installation: Installation) -> None:
    await orm(lambda: Credential.objects.update(encrypted=b"rubbish"))
    async with kept() as memory:
        assert memory.snapshot.models == ()


async def test_the_rows_of_a_snapshot_are_of_one_moment(installation: Installation) -> None:
    async with own_connection() as raw:
        version, rows = await catalog_rows.read(raw)
    assert set(rows) == set(catalog_rows.QUERIES)
    assert [(version,)] == await sql("SELECT catalog FROM accounts_version")
    built = catalog_rows.assemble(version, rows, time.time())
    assert built.version == version
    (model,) = built.models
    (target,) = model.targets
    assert target.provider.headers["openai_chat"]["Authorization"] == "Bearer up-canary-91c2b7aa"
    assert (target.prices[0].input, target.prices[0].cache_write_1h) == (2_500_000_000, 2_500_000_000)
    assert await orm(Model.objects.count) == await orm(Price.objects.count) == 1


async def test_headers_that_frame_a_request_are_never_added(installation: Installation) -> None:
    framing = {"Content-Length": "3", "transfer-encoding": "chunked"}

    def spoil() -> None:
        Provider.objects.update(add_headers={"X-Team": "red", **framing})
        Grant.objects.update(add_headers={"X-Cost": "search", **framing})

    await orm(spoil)
    async with kept() as memory:
        assert [grant.add_headers for grant in memory.snapshot.grants] == [{"X-Cost": "search"}]
        assert set(memory.snapshot.models[0].targets[0].provider.headers["openai_chat"]) == {"X-Team", "Authorization"}


async def test_a_grant_s_e_mail_is_the_same_in_every_case(installation: Installation) -> None:
    await orm(lambda: Grant.objects.update(subjects=["user:BOB@Example.com"]))
    async with kept() as memory:
        assert [grant.subjects for grant in memory.snapshot.grants] == [{"user:bob@example.com"}]


def reprice(**price: Any) -> None:
    """Make the one target anew, for its price stays as long as it does; without a price if none is given."""
    old = Target.objects.get()
    old.delete()
    target = Target.objects.create(model=old.model, provider=old.provider, upstream_id=old.upstream_id)
    if price:
        Price.objects.create(target=target, input=1, output=1, **price)


# --- What may be sold -----------------------------------------------------------------------------------------------


async def test_in_resale_mode_a_model_is_there_once_its_first_price_begins(
    installation: Installation, settings: Any
) -> None:
    settings.MODE = "resale"
    begins_at = timezone.now() + timedelta(seconds=1)
    await orm(lambda: reprice(effective_at=begins_at))
    async with kept() as memory:
        assert memory.snapshot.models == ()

        async def sold() -> bool:
            return [model.public_id for model in memory.snapshot.models] == ["openai/gpt-4o"]

        await eventually(sold)
        assert timezone.now() >= begins_at


async def test_in_resale_mode_what_has_no_price_is_not_sold(installation: Installation, settings: Any) -> None:
    await orm(reprice)
    async with kept() as memory:
        assert len(memory.snapshot.models) == 1
    settings.MODE = "resale"
    async with kept() as memory:
        assert memory.snapshot.models == ()
