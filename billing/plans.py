"""The plans that an installation begins with, made once: operators edit them from then on."""

from typing import Any

from django.db import transaction

from billing.models.plan import Plan
from billing.money import NANOS_PER_DOLLAR
from catalog.models import Once

SEEDS: list[dict[str, Any]] = [
    {
        "slug": Plan.FREE,
        "name": "Free",
        "position": 1,
        "description": "Free models at $0; every model once there is credit.",
        "cache_lifetime_s": 60,
    },
    {
        "slug": Plan.PRO,
        "name": "Pro",
        "position": 2,
        "description": "Automatic fallback, the native Anthropic endpoint, and credit each month.",
        "price_nanos": 20 * NANOS_PER_DOLLAR,
        "monthly_credit_nanos": 20 * NANOS_PER_DOLLAR,
        "cache_lifetime_s": 300,
        "fallback": True,
        "native_anthropic": True,
    },
    {
        "slug": Plan.ENTERPRISE,
        "name": "Enterprise",
        "position": 3,
        "description": "Terms of your own: markup, cache, limits, and your own provider keys.",
        "cache_lifetime_s": 300,
        "fallback": True,
        "native_anthropic": True,
        "bring_your_own_key": True,
    },
]


def seed(**_: Any) -> None:
    """Make the plans that were never made; called after every migration."""
    for fields in SEEDS:
        with transaction.atomic():
            if Once.objects.get_or_create(name=f"plan:{fields['slug']}")[1]:
                Plan.objects.get_or_create(slug=fields["slug"], defaults=fields)
