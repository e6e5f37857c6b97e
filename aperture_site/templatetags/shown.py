"""How the pages write amounts and moments. Money is exact to the nano-dollar, always."""

from datetime import datetime, timedelta

from django import template
from django.forms import BoundField, CheckboxInput
from django.utils import timezone

from billing import money

register = template.Library()


@register.filter
def dollars(nanos: int) -> str:
    """Return an amount of nano-dollars exactly: `$12.50`, `−$0.000123`."""
    sign = "−" if nanos < 0 else ""
    whole, _, rest = money.shown(abs(nanos)).partition(".")
    return f"{sign}${int(whole):,}.{rest}"


@register.filter
def cents(nanos: int) -> str:
    """Return an amount up to its cents, for a large figure; `beyond_cents` is the rest, so that both are exact."""
    text = dollars(nanos)
    return text[: text.index(".") + 3]


@register.filter
def beyond_cents(nanos: int) -> str:
    """Return the digits of an amount behind its cents, if it has any."""
    text = dollars(nanos)
    return text[text.index(".") + 3 :]


@register.filter
def ago(moment: datetime | None) -> str:
    """Return how long ago a moment was, or how far away it is, in a few words."""
    if moment is None:
        return "never"
    away = moment - timezone.now()
    length = _length(abs(away))
    if length == "now":
        return "just now"
    return f"in {length}" if away > timedelta() else f"{length} ago"


def _length(length: timedelta) -> str:
    seconds = length.total_seconds()
    if seconds < 45:
        return "now"
    for limit, unit_s, unit in ((3600, 60, "min"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{max(1, round(seconds / unit_s))} {unit}"
    days = round(seconds / 86_400)
    return "1 day" if days == 1 else f"{days} days"


@register.filter
def thousands(number: int | str) -> str:
    """Return a number with separators; of a decimal text, its whole part gets them."""
    whole, point, rest = str(number).partition(".")
    return f"{int(whole):,}{point}{rest}"


@register.filter
def milliseconds(duration_ms: int) -> str:
    """Return a duration as people read it."""
    return f"{duration_ms} ms" if duration_ms < 1000 else f"{duration_ms / 1000:.1f} s"


@register.filter
def is_checkbox(field: BoundField) -> bool:
    """Tell whether a field is a box to tick, whose label stands behind it."""
    return isinstance(field.field.widget, CheckboxInput)
