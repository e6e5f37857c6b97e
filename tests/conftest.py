"""The suite's own PostgreSQL and Valkey, started for the first test that asks for them and stopped after the last.

The data folder is a fresh temporary one, or the one that APERTURE_TEST_DATA_DIR names (kept, so the next run starts
faster). DATABASE_URL and REDIS_URL are honoured. The settings are named here and not in pyproject.toml, for they must
not be loaded before the data folder is chosen.

Of a run in several processes each has engines of its own, so that tests may end everybody's sessions and empty Valkey.
"""

import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest

# A worker process of a parallel run uses the folder that its parent made.
OWN_DATA_DIR = None if "APERTURE_TEST_DATA_DIR" in os.environ else tempfile.mkdtemp(prefix="aperture-test-")
os.environ.setdefault("APERTURE_TEST_DATA_DIR", OWN_DATA_DIR or "")
SHARED_DATA_DIR = Path(os.environ["APERTURE_TEST_DATA_DIR"]).resolve()
SHARED_DATA_DIR.mkdir(parents=True, exist_ok=True)
DATA_DIR = SHARED_DATA_DIR / os.environ.get("PYTEST_XDIST_WORKER", "")
os.environ["APERTURE_TEST_DATA_DIR"] = str(SHARED_DATA_DIR)
os.environ["APERTURE_DATA_DIR"] = str(DATA_DIR)
os.environ["DJANGO_SETTINGS_MODULE"] = "aperture_site.settings"
# No test leaves this machine; those of the refresh name a server of their own.
os.environ.setdefault("APERTURE_PRICE_DATA_URL", "off")


def pytest_configure() -> None:
    """Load the settings, so that pytest-django, which comes after, sets Django up."""
    from django.conf import settings
    from django.contrib.auth.hashers import PBKDF2PasswordHasher
    from django.test import TransactionTestCase

    assert settings.DATA_DIR == DATA_DIR
    TransactionTestCase._fixture_teardown = empty  # type: ignore[attr-defined]
    # A million rounds for each user that a test makes would be a third of the unit tests' time. The algorithm stays,
    # so that a server process, which has all its rounds, knows these passwords.
    PBKDF2PasswordHasher.iterations = 1_000


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Have each process of a parallel run choose its folder before it loads the settings."""
    del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure() -> None:
    """Remove the temporary data folder."""
    if OWN_DATA_DIR:
        shutil.rmtree(OWN_DATA_DIR, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes long where several processes share the work, so that none of them ends long after all."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("server") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let nothing else run, in whichever process, while a test that is marked `quiet` does."""
    wanted = fcntl.LOCK_EX if item.get_closest_marker("quiet") else fcntl.LOCK_SH
    with (SHARED_DATA_DIR / "queue.lock").open("w") as queue, (SHARED_DATA_DIR / "room.lock").open("w") as room:
        # Who waits for the room keeps the queue: those who could share the room would pass it for ever.
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(room, wanted)
        fcntl.flock(queue, fcntl.LOCK_UN)
        return (yield)


# What every migrated database has, and no test changes for good.
KEPT = {"django_migrations", "django_content_type", "auth_permission", "accounts_version"}


def empty(_case: object) -> None:
    """Empty the test database after a test that committed, and make what every installation begins with.

    Django would truncate some seventy tables and then look all permissions up; to delete the few rows takes a tenth of
    that. Triggers are off meanwhile: the ledger's refuse it.
    """
    from django.db import connection, transaction

    from billing import plans, sandbox

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(emptying())
    plans.seed()
    sandbox.seed()


@functools.cache
def emptying() -> str:
    """Return the statements that empty every table, to be sent at once."""
    from django.db import connection

    tables = set(connection.introspection.django_table_names(only_existing=True)) - KEPT
    deletes = [f"DELETE FROM {connection.ops.quote_name(table)}" for table in sorted(tables)]
    return "; ".join(["SET LOCAL session_replication_role = replica", *deletes])


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """Read what no test changes once: the list of static files, else for each browser, and the price data.

    Both are found as the product finds them; only the second time is saved.
    """
    from aperture_site.static_files import StaticFiles
    from catalog import price_list

    files: dict[str, object] = {}
    find, load = StaticFiles.add_files_from_finders, price_list.load

    def add_files(self: StaticFiles) -> None:
        if not files:
            find(self)
            files.update(self.files)
        self.files.update(files)

    @functools.cache
    def load_once(name: str, ids: tuple[str, ...], day: date, data: bytes) -> price_list.PriceList:
        return load(name, ids, day, data)

    def load_sorted(name: str, ids: Iterable[str], day: date, data: bytes = b"") -> price_list.PriceList:
        return load_once(name, tuple(sorted(set(ids))), day, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StaticFiles, "add_files_from_finders", add_files)
        patch.setattr(price_list, "load", load_sorted)
        yield


@pytest.fixture(scope="session")
def engines() -> Iterator[Path]:
    """PostgreSQL and Valkey at the settings' addresses; the value is their data folder."""
    from aperture_site import engines as site_engines

    with site_engines.configured().running() as up:
        hasten()
        yield up.data_dir


def hasten() -> None:
    """Have the suite's own PostgreSQL not wait for the disk: what a power cut would lose is not looked for here.

    Where it is killed on purpose, a test starts one of its own.
    """
    if os.environ.get("DATABASE_URL"):
        return
    from billing.connection import parameters

    with psycopg.connect(**parameters() | {"dbname": "postgres"}, autocommit=True) as raw:
        raw.execute("ALTER SYSTEM SET fsync = off")
        raw.execute("ALTER SYSTEM SET full_page_writes = off")
        raw.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(engines: Path) -> None:
    """Have the engines up before the test database is made, and only for tests that use one.

    Its connections may empty the ledger between two tests; nobody else's may.
    """
    from django.conf import settings

    settings.DATABASES["default"]["OPTIONS"]["options"] = "-c aperture.truncating=on"
