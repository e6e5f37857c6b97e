"""The sandbox's limits that an installation begins with, made once: operators edit them from then on."""

from typing import Any

from django.db import transaction

from billing.models.limit import Limit
from catalog.models import Once

SEEDS = {Limit.REQUESTS_PER_MINUTE: 20, Limit.REQUESTS_PER_DAY: 200}


def seed(**_: Any) -> None:
    """Make the sandbox's limits that were never made; called after every migration."""
    for kind, amount in SEEDS.items():
        with transaction.atomic():
            if Once.objects.get_or_create(name=f"sandbox:{kind}")[1]:
                Limit.objects.get_or_create(scope=Limit.SANDBOX, kind=kind, defaults={"amount": amount})
