"""Realtime sessions: a real web process in front of a realtime upstream, and who may call it at which price."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.installation import Installation
from tests.upstream.realtime import RealtimeUpstream

NAMES = itertools.count()


@pytest.fixture(scope="module")
def live() -> Iterator[RealtimeUpstream]:
    """The realtime upstream."""
    with RealtimeUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def models(installation: Installation, live: RealtimeUpstream) -> None:
    """The upstream's models, once for all servers of a module."""
    from tests.gateway.realtime import models

    models.install(live.base_url)


@pytest.fixture(scope="module")
def talking(gateway: Gateway, models: None) -> Gateway:
    """The gateway, which knows these models."""
    gateway.follow()
    return gateway


@pytest.fixture
def someone(talking: Gateway) -> Callable[[int], tuple[str, int]]:
    """Make somebody with credit; return the key and the organization's id."""

    def make(nanos: int) -> tuple[str, int]:
        from tests.gateway.rows import prepaid

        name = f"speaker{next(NAMES)}"
        organization_id = prepaid(talking.installed, name, nanos)
        return talking.installed.keys[name], organization_id

    return make
