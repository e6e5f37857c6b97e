"""Addresses become what Django and Celery need; wrong ones are refused without showing their password."""

from pathlib import Path

import pytest
from redis.connection import parse_url

from aperture_site import addresses, env


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APERTURE_DATABASE_PASSWORD", "p:/@s")
    monkeypatch.setenv("APERTURE_REDIS_PASSWORD", "r:/@s")


def test_a_database_url_becomes_djangos_entry() -> None:
    entry = addresses.django_database("postgres://us%40er:p%2Fw@db.example:6432/my%20data?sslmode=require")
    assert (entry["NAME"], entry["USER"], entry["PASSWORD"]) == ("my data", "us@er", "p/w")
    assert (entry["HOST"], entry["PORT"]) == ("db.example", "6432")
    assert entry["OPTIONS"] == {"sslmode": "require"}


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hidden@host/name",
        "sqlite:///file",
        "postgresql://user:hidden@host",
        "postgresql://user:hidden@host:port/name",
        "user:hidden@host/name",
    ],
)
def test_a_wrong_database_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(env.SettingError, match=r"DATABASE_URL=.*write postgresql://user:password@host") as refused:
        addresses.django_database(url)
    assert "hidden" not in str(refused.value)


def test_the_embedded_addresses_survive_any_password_and_folder() -> None:
    data_dir = Path("/srv/a b%20c")
    database = addresses.django_database(addresses.embedded_database(data_dir))
    assert (database["HOST"], database["PASSWORD"]) == ("/srv/a b%20c/sockets", "p:/@s")
    redis = parse_url(addresses.embedded_redis(data_dir))  # type: ignore[no-untyped-call]
    assert (redis["path"], redis["password"]) == ("/srv/a b%20c/sockets/valkey.sock", "r:/@s")


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis://:pw@host:6379/2", "redis://:pw@host:6379/2"),
        ("unix://:p%2Fw@/run/v.sock", "redis+socket://:p%2Fw@/run/v.sock"),
        ("unix:///run/v.sock?db=3", "redis+socket:///run/v.sock?virtual_host=3"),
    ],
)
def test_celery_gets_its_own_spelling_of_a_redis_url(url: str, broker: str) -> None:
    assert addresses.celery_broker(url) == broker


def test_a_wrong_redis_url_is_refused() -> None:
    with pytest.raises(env.SettingError, match=r"REDIS_URL=.amqp://\.\.\.. is not valid"):
        addresses.celery_broker("amqp://guest:hidden@host")


def test_a_deep_data_folder_gets_a_short_folder_for_its_sockets() -> None:
    deep = Path("/srv") / ("d" * 90)
    short = addresses.socket_dir(deep)
    assert len(str(short / ".s.PGSQL.5432.lock")) < 100
    assert short != addresses.socket_dir(deep / "other")
    assert addresses.socket_dir(Path("/srv/var")) == Path("/srv/var/sockets")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("192.0.2.7", "http://192.0.2.7:8000"),
        ("localhost", "http://localhost:8000"),
    ],
)
def test_a_server_reaches_itself_at_the_address_it_listens_on(host: str, url: str) -> None:
    assert addresses.loopback_url(host, 8000) == url
