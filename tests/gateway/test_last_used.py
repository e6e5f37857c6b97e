"""When a secret was last used is noted off the requests' way, to the minute, for each secret of a key."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from accounts import keys, rotation
from accounts.models import APIKey, RetiredSecret, User, Version
from gateway.runtime import Runtime
from tests.wire import orm

pytestmark = pytest.mark.django_db(transaction=True)


async def noted(*used: tuple[int, str]) -> None:
    """Let a process note these secrets."""
    runtime = Runtime()
    runtime.start()
    runtime.used_keys.update(used)
    try:
        assert await runtime.freshness.wait(5)
        await runtime.note_used_keys()
        assert runtime.used_keys == set()
    finally:
        await runtime.stop()


def minted() -> APIKey:
    return keys.mint(user=User.objects.create_user("alice@example.com"))[0]


async def used_at(key: APIKey) -> datetime | None:
    return await orm(lambda: APIKey.objects.get(pk=key.pk).last_used_at)


async def last_used(key: APIKey) -> bool:
    return await used_at(key) is not None


async def test_a_use_is_noted_and_bumps_nothing() -> None:
    key = await orm(minted)
    before = await orm(Version.objects.get)
    await noted((key.pk, key.display))
    assert await last_used(key)
    assert (await orm(Version.objects.get)).keys == before.keys


async def test_in_an_overlap_each_secret_has_its_own_time() -> None:
    key = await orm(minted)
    former = key.display
    await orm(lambda: rotation.reset(key, overlap_s=60))
    await noted((key.pk, former))
    assert not await last_used(key)
    assert (await orm(RetiredSecret.objects.get)).last_used_at is not None
    await noted((key.pk, key.display))
    assert await last_used(key)


async def test_a_dead_former_secret_is_not_noted() -> None:
    key = await orm(minted)
    former = key.display
    await orm(lambda: rotation.reset(key))
    await noted((key.pk, former))
    assert not await last_used(key)
    assert (await orm(RetiredSecret.objects.get)).last_used_at is None


async def test_a_key_that_was_noted_within_a_minute_is_not_written_again() -> None:
    key, earlier = await orm(minted), timezone.now() - timedelta(seconds=50)
    await orm(lambda: APIKey.objects.update(last_used_at=earlier))
    await noted((key.pk, key.display))
    assert await used_at(key) == earlier
    await orm(lambda: APIKey.objects.update(last_used_at=earlier - timedelta(seconds=20)))
    await noted((key.pk, key.display))
    assert (await used_at(key) or earlier) > timezone.now() - timedelta(seconds=20)
