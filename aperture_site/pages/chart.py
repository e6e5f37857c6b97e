"""A chart of bars by day, as the numbers of an SVG that a template draws: no code and no style is in the page. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from aperture_site.pages.periods import Sums
from billing.money import shown

WIDTH, HEIGHT, GAP = 720, 160, 4
# The smallest bar that can be seen of a day on which something was used.
LEAST = 3


@dataclass(frozen=True)
class Bar:
    """One day."""

    day: date
    sums: Sums
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """The bars, what they count, and how much the highest is."""

    bars: Sequence[Bar]
    measure: str
    top: str
    width: int = WIDTH
    height: int = HEIGHT


def draw(days: Sequence[tuple[date, Sums]]) -> Chart:
    """Return the chart of these days: of what was spent or, where that is nothing, of the requests."""
    money = any(sums.nanos for _, sums in days)
    values = [sums.nanos if money else sums.requests for _, sums in days]
    highest = max(values, default=0)
    step = WIDTH / max(len(values), 1)
    bars = []
    for place, ((day, sums), value) in enumerate(zip(days, values, strict=True)):
        height = max(LEAST, round(value * HEIGHT / highest, 1)) if value else 0
        bars.append(
            Bar(day, sums, round(place * step + GAP / 2, 1), round(HEIGHT - height, 1), round(step - GAP, 1), height)
        )
    return Chart(bars, "Spend" if money else "Requests", f"${shown(highest)}" if money else f"{highest:,}")
