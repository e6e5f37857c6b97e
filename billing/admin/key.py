"""What the pages of keys tell beside what `accounts` knows: which programs have used a key lately.

They are in the usage rows, which are above `accounts`; so the page is registered anew here.
"""

from datetime import timedelta

from django.contrib import admin
from django.db import OperationalError, connection, transaction
from django.db.models import Count, Max
from django.utils import timezone

from accounts.admin.key import KeyAdmin
from accounts.models import APIKey
from billing import usage
from billing.models import Usage

LATELY = timedelta(days=7)
TIMEOUT_MS = 2_000
CLIENTS_MAX = 5

admin.site.unregister(APIKey)


@admin.register(APIKey)
class UsedKeyAdmin(KeyAdmin):
    def use_of(self, key: APIKey) -> list[tuple[str, str]]:
        return [*super().use_of(key), ("In the last 7 days", lately(key))]


def lately(key: APIKey) -> str:
    """Return who has used KEY in the last seven days: programs, how often, and when last."""
    since = usage.first_id(timezone.now() - LATELY)
    rows = Usage.objects.filter(organization_id=key.organization_id, request_id__gte=since, key_id=key.pk)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
            found = list(rows.values("client").annotate(count=Count("*"), last=Max("created_at")).order_by("-last"))
    except OperationalError:
        return "too much to tell quickly; see its usage"
    shown = [
        f"{row['client'] or 'an unnamed client'}: {_requests(row['count'])}, last {row['last']:%Y-%m-%d %H:%M} UTC"
        for row in found[:CLIENTS_MAX]
    ]
    if len(found) > CLIENTS_MAX:
        shown.append(f"and {len(found) - CLIENTS_MAX} more")
    return "\n".join(shown) or "nobody"


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count:,} requests"
