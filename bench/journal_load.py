"""Hold and settle as fast as one process can, on so many wallets, and print how it went.

The journal alone, as a web process runs it: what a request does around it would hide what is looked for here.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import time

CONCURRENCY = 64
CREDIT_NANOS = 10**15


def prepare(wallets: int) -> list[int]:
    """Return the ids of so many organizations with credit, made where they are missing; one process at a time."""
    from django.db import connection, transaction

    from accounts.models import Organization
    from billing import ledger
    from billing.models import House, Kind
    from billing.money import Money

    ids = []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(1)")
        for number in range(wallets):
            organization, made = Organization.objects.get_or_create(name=f"bench wallet {number}")
            if made:
                ledger.credit(organization.pk, Money(CREDIT_NANOS), Kind.CREDIT, House.PROMOTIONS)
            ids.append(organization.pk)
    return ids


async def load(organizations: list[int], seconds: float) -> dict[str, float]:
    """Hold and settle for so many seconds; return how many a second, and what each took."""
    from billing.holds import Ask
    from billing.journal import Journal
    from billing.usage import restored
    from gateway.exchange import new_request_id

    journal = Journal()
    journal.start()
    turns = itertools.cycle(organizations)
    taken: list[float] = []

    async def one() -> None:
        organization_id = next(turns)
        about = {"organization_id": organization_id, "key_id": organization_id, "model": "bench/m", "status": 200}
        row = restored(about | {"request_id": new_request_id(), "cost_nanos": 1000, "charge_nanos": 1200})
        began_at = time.perf_counter()
        held = await journal.hold(Ask(row, wanted_nanos=5000, least_nanos=5000, full_nanos=5000), 10)
        await journal.settle(held, row, 10)
        taken.append(time.perf_counter() - began_at)

    async def client(until: float) -> None:
        while time.perf_counter() < until:
            await one()

    await asyncio.gather(*(client(time.perf_counter() + 1) for _ in range(CONCURRENCY)))
    taken.clear()
    gc.freeze()
    began_at, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client(began_at + seconds) for _ in range(CONCURRENCY)))
    spent_s, cpu_s = time.perf_counter() - began_at, time.process_time() - cpu_s
    await journal.stop(10)
    taken.sort()
    return {
        "per_second": len(taken) / spent_s,
        "cpu_us": cpu_s / len(taken) * 1e6,
        "p50_ms": taken[len(taken) // 2] * 1000,
        "p99_ms": taken[len(taken) * 99 // 100] * 1000,
    }


def main() -> None:
    """Load, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wallets", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")
    import django

    django.setup()
    import uvloop

    organizations = prepare(options.wallets)
    print(json.dumps(uvloop.run(load(organizations, options.seconds))))


if __name__ == "__main__":
    main()
