"""The price data that was fetched last, kept in the database.

Web processes read price lists too (an accepted proposal prices its target), and may run on another machine than the
worker that fetched: were the data in a folder of the worker's, each would write its own prices over the other's.

Invariant: what is kept was read as a whole by the installed package before. It is used in place of the package's own
while it is the newer of the two. The data has no date, so that is told by when it was last known to be the newest: with
another version of the package, what nobody confirmed lately may be the older.
"""

import gzip
from datetime import datetime, timedelta
from importlib.metadata import version

from django.conf import settings

from catalog.models import PriceData

TRUSTED = timedelta(days=3)


def kept(now: datetime) -> PriceData | None:
    """Return the data that is read in place of the package's, or None where the package's is."""
    if not settings.PRICE_DATA_URL:
        return None
    row = PriceData.objects.filter(url=settings.PRICE_DATA_URL).first()
    if row and (row.package_version == version("genai-prices") or row.confirmed_at > now - TRUSTED):
        return row
    return None


def content(now: datetime) -> bytes:
    """Return what a child reads: the kept data (gzip), or nothing where it reads the package's."""
    row = kept(now)
    return bytes(row.content) if row else b""


def packed(body: bytes) -> bytes:
    """Return data as it is kept; the same data is the same bytes."""
    return gzip.compress(body, mtime=0)


def keep(data: bytes, etag: str, now: datetime) -> None:
    """Put packed data that was just fetched and read in the place of what was kept."""
    PriceData.objects.update_or_create(
        pk=1,
        defaults={
            "content": data,
            "url": settings.PRICE_DATA_URL,
            "etag": etag,
            "package_version": version("genai-prices"),
            "fetched_at": now,
            "confirmed_at": now,
        },
    )


def confirm(row: PriceData, now: datetime) -> None:
    """Note that the kept data is still the newest."""
    PriceData.objects.filter(pk=row.pk).update(confirmed_at=now, package_version=version("genai-prices"))
