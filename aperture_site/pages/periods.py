"""Today, this week and this month, each beside as much of the one before; and the days of a chart. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

CHART_DAYS = 30


@dataclass(frozen=True)
class Sums:
    """What was spent, in nano-dollars, and how many requests that was, and how many of them failed."""

    nanos: int = 0
    requests: int = 0
    failed: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.nanos + other.nanos, self.requests + other.requests, self.failed + other.failed)


@dataclass(frozen=True)
class Period:
    """A while up to today, and the same days of the while before."""

    name: str
    before: str
    present: Sums
    former: Sums

    @property
    def change(self) -> str:
        """The change of what was spent (where nothing was, of the requests), as people read it; empty where there is
        nothing to compare with."""
        now, then = self.present.nanos, self.former.nanos
        if not now and not then:
            now, then = self.present.requests, self.former.requests
        if not then:
            return ""
        percent = round((now - then) * 100 / then)
        return "no change" if percent == 0 else f"{'+' if percent > 0 else '−'}{abs(percent):,} %"


def first_day(today: date) -> date:
    """Return the first day that anything here looks at."""
    return min((today.replace(day=1) - timedelta(days=1)).replace(day=1), today - timedelta(days=CHART_DAYS))


def periods(today: date, days: Mapping[date, Sums]) -> list[Period]:
    """Return today, this week and this month of the sums by day."""
    monday = today - timedelta(days=today.weekday())
    first = today.replace(day=1)
    before_first = (first - timedelta(days=1)).replace(day=1)
    # The same day of a shorter month is its last.
    before_last = min(before_first + timedelta(days=today.day - 1), first - timedelta(days=1))
    week = timedelta(days=7)
    return [
        Period("Today", "yesterday", between(days, today, today), between(days, *[today - timedelta(days=1)] * 2)),
        Period("This week", "last week", between(days, monday, today), between(days, monday - week, today - week)),
        Period("This month", "last month", between(days, first, today), between(days, before_first, before_last)),
    ]


def between(days: Mapping[date, Sums], first: date, last: date) -> Sums:
    """Return the sum of the days from FIRST to LAST."""
    return sum((sums for day, sums in days.items() if first <= day <= last), Sums())


def charted(today: date, days: Mapping[date, Sums]) -> list[tuple[date, Sums]]:
    """Return the last thirty days, oldest first, each with its sums."""
    shown = (today - timedelta(days=ago) for ago in range(CHART_DAYS - 1, -1, -1))
    return [(day, days.get(day, Sums())) for day in shown]
