"""Keys are looked up once, together, and never remembered past a change."""

import asyncio

import psycopg
import pytest

from accounts import keys
from accounts.models import APIKey, User
from gateway.callers import Callers
from gateway.snapshot import Caller
from tests.installation import Installation, populate
from tests.wire import orm, sql, wired

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def installation(transactional_db: None) -> Installation:
    return populate()


class Counted(Callers):
    """Callers whose queries are counted, and can be held back after they have read."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.answered = asyncio.Event()
        self.answered.set()

    async def _query(self, wanted: list[bytes]) -> dict[bytes, Caller | None]:
        self.batches.append(len(wanted))
        found = await super()._query(wanted)
        await self.answered.wait()
        return found


async def test_what_cannot_be_a_key_makes_no_query(installation: Installation) -> None:
    callers = Counted()
    good = installation.clear_key
    for text in ("", "sg-", "é" * 39, good[:-1], good[:-1] + ("a" if good[-1] != "a" else "b"), good + "\n", "\x00"):
        assert await callers.find(text) is None
    assert callers.batches == []
    await callers.close()


async def test_a_known_key_makes_one_query_and_then_none(installation: Installation) -> None:
    callers = Counted()
    unknown = keys.generate()
    for _ in range(3):
        found = await callers.find(installation.clear_key)
        assert found is not None
        assert (found.key_id, found.email, found.model_globs) == (installation.key.pk, "bob@example.com", ("openai/*",))
        assert {"everyone", "user:bob@example.com", "group:research", "tag:project=search"} <= found.subjects
        assert await callers.find(unknown) is None
    assert callers.batches == [1, 1]
    await callers.close()


async def test_many_look_ups_at_once_make_few_queries(installation: Installation) -> None:
    def mint() -> list[str]:
        return [keys.mint(user=installation.bob, name=str(number))[1] for number in range(60)]

    minted = await orm(mint)
    callers = Counted()
    found = await asyncio.gather(*(callers.find(key) for key in minted * 5))
    assert len({caller.key_id for caller in found if caller}) == 60
    assert len(callers.batches) <= 2
    assert sum(callers.batches) == 60
    await callers.close()


async def test_a_look_up_that_a_revocation_overtakes_asks_again(installation: Installation) -> None:
    callers = Counted()
    callers.answered.clear()
    asking = asyncio.create_task(callers.find(installation.clear_key))
    while not callers.batches:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)
    await sql("UPDATE accounts_apikey SET revoked_at = now()")
    callers.forget()
    callers.answered.set()
    found = await asking
    assert found is not None
    assert found.revoked
    assert callers.batches == [1, 1]
    assert [caller and caller.revoked for caller in callers.known.values()] == [True]
    await callers.close()


async def test_one_who_leaves_takes_nobody_else_s_answer_along(installation: Installation) -> None:
    callers = Counted()
    callers.answered.clear()
    asking = [asyncio.create_task(callers.find(installation.clear_key)) for _ in range(3)]
    await asyncio.sleep(0.05)
    asking[0].cancel()
    callers.answered.set()
    assert all(await asyncio.gather(*asking[1:]))
    assert callers.batches == [1]
    await callers.close()


@pytest.mark.parametrize(
    "column", ["ip_allowlist = ARRAY['no network']", "labels = '[]'::jsonb", "labels = '\"x\"'::jsonb"]
)
async def test_a_row_that_cannot_be_read_refuses_its_own_key_only(
    installation: Installation, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    def mint() -> str:
        APIKey.objects.all()
        return keys.mint(user=User.objects.get(email="alice@example.com"))[1]

    other = await orm(mint)
    await sql(f"UPDATE accounts_apikey SET {column} WHERE id = {installation.key.pk}")
    callers = Counted()
    async with asyncio.timeout(5):
        bad, good = await asyncio.gather(callers.find(installation.clear_key), callers.find(other))
        assert await callers.find(installation.clear_key) is None
    assert bad is None
    assert good is not None
    assert "its row cannot be read" in caplog.text
    assert installation.clear_key not in caplog.text
    await callers.close()


async def test_without_a_database_a_look_up_fails_in_time_and_is_not_remembered(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.callers.LOOKUP_TIMEOUT_S", 0.2)
    async with wired() as wire:
        callers = Counted()
        await callers.find(keys.generate())
        wire.freeze()
        async with asyncio.timeout(1):
            with pytest.raises((psycopg.OperationalError, TimeoutError)):
                await callers.find(installation.clear_key)
        wire.thaw()
        assert await callers.find(installation.clear_key) is not None
        await callers.close()


async def test_a_fault_of_ours_leaves_nobody_waiting(installation: Installation) -> None:
    class Broken(Callers):
        async def _query(self, wanted: list[bytes]) -> dict[bytes, Caller | None]:
            raise RuntimeError("a mistake")

    callers = Broken()
    async with asyncio.timeout(2):
        with pytest.raises(RuntimeError, match="a mistake"):
            await callers.find(installation.clear_key)
    await callers.close()


async def test_closing_ends_the_wait_of_those_who_ask(installation: Installation) -> None:
    callers = Counted()
    callers.answered.clear()
    asking = asyncio.create_task(callers.find(installation.clear_key))
    await asyncio.sleep(0.05)
    await callers.close()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_guessers_fill_no_memory(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.callers.UNKNOWN_MAX", 5)
    callers = Counted()
    for _ in range(20):
        assert await callers.find(keys.generate()) is None
    assert len(callers.known) <= 6
    await callers.close()
