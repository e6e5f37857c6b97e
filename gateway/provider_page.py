"""What the provider's page shows of its health: state, uptime, latencies, and what became of it when and why."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils.html import format_html

from catalog import health, rates, standings
from catalog.models import Check, Provider, Standing, StandingChange
from gateway import checks

LATEST = 20
CHARTED = 90
CHART_WIDTH, CHART_HEIGHT = 900, 72
# As Unfold names the colours of its labels.
COLOURS = {"up": "success", "failing": "warning", "down": "danger", "refused": "danger"}


def context(provider: Provider, now: datetime) -> dict[str, Any]:
    """Return what the template needs."""
    own = Standing.objects.filter(provider=provider, credential=None, target=None).first()
    if own is None:
        return {"health": None}
    latest = list(Check.objects.filter(provider=provider).order_by("-at", "-pk")[:CHARTED])
    used = checks.spent(provider, now)
    most = provider.check_requests_per_day
    return {
        "health": own,
        "lapsed": own.trusted_until_at is None or own.trusted_until_at <= now,
        "health_colour": COLOURS.get(own.state, "default"),
        "uptimes": [(name, _percent(share)) for name, share in standings.uptimes(own, now).items()],
        "budget": f"{used.requests:,} of {'any number' if most is None else f'{most:,}'} requests, "
        f"${rates.to_dollars(used.nanos)} of ${rates.to_dollars(provider.check_nanos_per_day)}",
        "chart": chart(latest),
        "parts": parts_table(provider),
        "changes": changes_table(provider),
        "checks": checks_table(latest[:LATEST]),
    }


def _percent(share: float | None) -> str:
    return (
        "unknown"
        if share is None
        else f"{share:.3%}".replace("100.000%", "100 %").replace("%", " %").replace("  ", " ")
    )


def _time(at: datetime | None) -> str:
    return format_html('<span class="whitespace-nowrap">{}</span>', f"{at:%Y-%m-%d %H:%M:%S}") if at else ""


def chart(latest: list[Check]) -> dict[str, Any] | None:
    """Return the bars of the latest checks' latencies, the oldest first; the tallest is the slowest."""
    if not latest:
        return None
    slowest = max(1, *(each.latency_ms for each in latest))
    step = CHART_WIDTH / CHARTED
    bars = [
        {
            "x": round((CHARTED - len(latest) + number) * step, 1),
            "y": round(CHART_HEIGHT - max(2, CHART_HEIGHT * each.latency_ms / slowest), 1),
            "height": round(max(2, CHART_HEIGHT * each.latency_ms / slowest), 1),
            "ok": each.outcome in (health.OK, health.ALIVE),
            "title": f"{each.at:%Y-%m-%d %H:%M:%S} UTC: {each.outcome}, {each.latency_ms} ms",
        }
        for number, each in enumerate(reversed(latest))
    ]
    good = sorted(each.latency_ms for each in latest if each.outcome == health.OK)
    middle = f"{good[len(good) // 2]} ms" if good else "unknown"
    size = {"width": CHART_WIDTH, "height": CHART_HEIGHT, "bar": round(step * 0.7, 1)}
    return size | {"bars": bars, "slowest": slowest, "middle": middle, "count": len(latest)}


def parts_table(provider: Provider) -> dict[str, Any]:
    """Return the provider's credentials, and its targets that do not work, for Unfold's table."""
    found = Standing.objects.filter(provider=provider).select_related("provider", "credential", "target__model")
    rows = found.exclude(credential=None) | found.exclude(target=None).exclude(state__in=(health.UP, health.UNKNOWN))
    shown = [
        [_named(row), row.state, _time(row.since_at), row.reason]
        for row in rows.order_by("target_id", "credential__name")[: 2 * LATEST]
    ]
    return {"headers": ["Credential or target", "State", "Since (UTC)", "Reason"], "rows": shown}


def _named(row: Standing) -> str:
    if row.credential is not None:
        return f"credential {row.credential.name}"
    return f"target {row.target.upstream_id}" if row.target is not None else "the provider"


def changes_table(provider: Provider) -> dict[str, Any]:
    """Return the latest changes of state of the provider and what belongs to it, for Unfold's table."""
    found: QuerySet[StandingChange] = StandingChange.objects.filter(standing__provider=provider)
    latest = found.select_related("standing__credential", "standing__target").order_by("-at", "-pk")[:LATEST]
    rows = [
        [_time(each.at), _named(each.standing), f"{each.before} → {each.after}", each.source, each.reason]
        for each in latest
    ]
    return {"headers": ["Time (UTC)", "Of", "Change", "Seen by", "Reason"], "rows": rows}


def checks_table(latest: list[Check]) -> dict[str, Any]:
    """Return checks for Unfold's table."""
    rows = [
        [
            _time(each.at),
            each.credential,
            each.model or "listing",
            each.outcome,
            f"{each.latency_ms:,} ms",
            f"${rates.to_dollars(each.cost_nanos)}" if each.cost_nanos else "",
            each.reason,
        ]
        for each in latest
    ]
    headers = ["Time (UTC)", "Credential", "Asked", "Outcome", "Latency", "Cost", "What it said"]
    return {"headers": headers, "rows": rows}
