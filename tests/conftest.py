"""The suite's own PostgreSQL and Valkey, started for the first test that asks for them and stopped after the last.

The data folder is a fresh temporary one, or the one that APERTURE_TEST_DATA_DIR names (kept, so the next run starts
faster). DATABASE_URL and REDIS_URL are honoured. The settings are named here and not in pyproject.toml, for they must
not be loaded before the data folder is chosen.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

# A worker process of a parallel run uses the folder that its parent made.
OWN_DATA_DIR = None if "APERTURE_TEST_DATA_DIR" in os.environ else tempfile.mkdtemp(prefix="aperture-test-")
os.environ.setdefault("APERTURE_TEST_DATA_DIR", OWN_DATA_DIR or "")
os.environ["APERTURE_DATA_DIR"] = os.environ["APERTURE_TEST_DATA_DIR"] = str(
    Path(os.environ["APERTURE_TEST_DATA_DIR"]).resolve()
)
os.environ["DJANGO_SETTINGS_MODULE"] = "aperture_site.settings"


def pytest_configure() -> None:
    """Load the settings, so that pytest-django, which comes after, sets Django up."""
    from django.conf import settings
    from django.contrib.auth.hashers import PBKDF2PasswordHasher
    from django.test import TransactionTestCase

    assert Path(os.environ["APERTURE_TEST_DATA_DIR"]) == settings.DATA_DIR
    TransactionTestCase._fixture_teardown = empty  # type: ignore[attr-defined]
    # A million rounds for each user that a test makes would be a third of the unit tests' time. The algorithm stays,
    # so that a server process, which has all its rounds, knows these passwords.
    PBKDF2PasswordHasher.iterations = 1_000


def pytest_unconfigure() -> None:
    """Remove the temporary data folder."""
    if OWN_DATA_DIR:
        shutil.rmtree(OWN_DATA_DIR, ignore_errors=True)


# What every migrated database has, and no test changes for good.
KEPT = {"django_migrations", "django_content_type", "auth_permission", "accounts_version"}


def empty(_case: object) -> None:
    """Empty the test database after a test that committed, and make what every installation begins with.

    Django would truncate some seventy tables and then look all permissions up; to delete the few rows takes a tenth of
    that. Triggers are off meanwhile: the ledger's refuse it.
    """
    from django.db import connection, transaction

    from billing import plans, sandbox

    tables = set(connection.introspection.django_table_names(only_existing=True)) - KEPT
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for table in sorted(tables):
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
    plans.seed()
    sandbox.seed()


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
