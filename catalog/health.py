"""How a provider, a credential or a target does: the one place where that is decided. Pure.

A signal comes from a check or from traffic and says what was seen; `decide` returns what it makes of the condition that
was. Whoever keeps conditions (`catalog.standings`) writes down each change with its reason.

    unknown ─ok→ up ─failed→ failing ─failed→ down ─ok→ up
    any ─refused→ refused ─ok→ up

Down and refused keep their subject out of the routing plan, as long as there is another one that is in.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

UNKNOWN, UP, FAILING, DOWN, REFUSED = STATES = ("unknown", "up", "failing", "down", "refused")
OUT = (DOWN, REFUSED)

# What a signal says. ALIVE is no news: an answer that neither proves nor disproves anything, such as 429.
OK, FAILED, ALIVE = "ok", "failed", "alive"
CHECK, TRAFFIC = "check", "traffic"

REASON_CHARS_MAX = 500
FIRST_RETRY_S = 5.0
# A recovery is told once it has lasted; each further fall within the hour doubles how long.
STEADY = timedelta(minutes=2)
STEADY_MAX = timedelta(hours=1)
FLAPPING = timedelta(hours=1)
# Nobody renewed a state for so long: the checks have stopped, and say nothing of now.
TRUST_INTERVALS = 5
TRUST_S_MIN = 300.0


@dataclass(frozen=True, slots=True)
class Signal:
    """What was seen of a subject at a moment, and who saw it."""

    outcome: str
    at: datetime
    reason: str = ""
    source: str = CHECK


@dataclass(frozen=True, slots=True)
class Condition:
    """A subject's state, since when and why, and how often it failed in a row."""

    state: str = UNKNOWN
    since_at: datetime | None = None
    reason: str = ""
    failures: int = 0

    @property
    def is_out(self) -> bool:
        """Whether it keeps its subject out of the plan."""
        return self.state in OUT


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many failures in a row make down."""

    down_after: int = 2


USUAL = Thresholds()


def decide(before: Condition, signal: Signal, thresholds: Thresholds = USUAL) -> Condition:
    """Return the condition after a signal; `since_at` moves with the state only."""
    if signal.outcome == ALIVE:
        return before
    if signal.outcome == OK:
        return _entered(before, UP, signal, 0)
    if signal.outcome == REFUSED:
        return _entered(before, REFUSED, signal, before.failures + 1)
    failures = before.failures + 1
    # A connection that fails says nothing of a credential that was refused.
    if before.state == REFUSED:
        return replace(before, failures=failures)
    down = before.state == DOWN or failures >= thresholds.down_after
    return _entered(before, DOWN if down else FAILING, signal, failures)


def _entered(before: Condition, state: str, signal: Signal, failures: int) -> Condition:
    since_at = before.since_at if before.state == state and before.since_at else signal.at
    return Condition(state, since_at, signal.reason[:REASON_CHARS_MAX], failures)


def together(signals: Iterable[Signal]) -> Signal | None:
    """Return what the looks with each of a provider's credentials say of the provider: the best of them.

    One that is accepted is enough; it is refused where all are, and has failed where none came through.
    """
    rank = (OK, ALIVE, FAILED, REFUSED)
    return min(signals, key=lambda signal: rank.index(signal.outcome), default=None)


def pause_s(condition: Condition, interval_s: float) -> float:
    """Return after how many seconds to look again: soon after a failure, then ever later, within the interval."""
    if condition.state not in (FAILING, DOWN):
        return interval_s
    return float(min(interval_s, FIRST_RETRY_S * 2 ** min(max(condition.failures - 1, 0), 20)))


def trusted_s(interval_s: float) -> float:
    """Return for how many seconds a state counts that nobody renews."""
    return max(TRUST_S_MIN, TRUST_INTERVALS * interval_s)


def to_tell(condition: Condition, told: str, falls: int, now: datetime) -> str:
    """Return the state that the operator is to be told of now, or an empty text.

    TOLD is what was told last ("" for nothing), FALLS how often the subject went out within the hour.
    """
    if condition.is_out:
        return "" if told in OUT else condition.state
    if told not in OUT or condition.state != UP or condition.since_at is None:
        return ""
    return UP if now - condition.since_at >= steady(falls) else ""


def steady(falls: int) -> timedelta:
    """Return how long a recovery must last to be told."""
    doublings = min(max(falls - 1, 0), 10)
    return min(STEADY * (1 << doublings), STEADY_MAX)


# What people want to know the uptime of, and for how long changes are kept for it.
WINDOWS = {"24 h": timedelta(hours=24), "7 d": timedelta(days=7), "30 d": timedelta(days=30)}
CHANGES_KEPT = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Span:
    """A state from a moment on."""

    at: datetime
    state: str


def uptime(spans: Iterable[Span], since: datetime, until: datetime) -> float | None:
    """Return the share of the time from SINCE to UNTIL in which a subject was not out, from 0 to 1.

    SPANS are in the order of time; the last one that began before SINCE counts from there. Time of which nothing is
    known is left out; None where that is all.
    """
    known = good = timedelta()
    for span, following in itertools.pairwise([*spans, Span(until, UNKNOWN)]):
        length = min(following.at, until) - max(span.at, since)
        if span.state == UNKNOWN or length <= timedelta():
            continue
        known += length
        if span.state not in OUT:
            good += length
    return good / known if known else None


def spans(changes: Iterable[tuple[datetime, str, str]], now_is: Condition, now: datetime) -> list[Span]:
    """Return a subject's states in the order of time, from its CHANGES (when, before, after; the oldest first)."""
    found: list[Span] = []
    for at, before, after in changes:
        # Of the time before the oldest change that is kept, its `before` tells.
        found = found or [Span(now - CHANGES_KEPT, before)]
        found.append(Span(at, after))
    return found or ([Span(now_is.since_at, now_is.state)] if now_is.since_at else [])


def uptimes(found: list[Span], now: datetime) -> dict[str, float | None]:
    """Return the uptime of each window, from 0 to 1."""
    return {name: uptime(found, now - length, now) for name, length in WINDOWS.items()}
