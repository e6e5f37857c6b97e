"""Read the spending limits of a document. Pure.

A limit with a `rate` refills continuously; one with a `period` instead is a budget that starts anew with each period
of the calendar. Amounts are dollars.
"""

import re
from dataclasses import dataclass
from typing import Any

from accounts.subjects import EVERYONE
from billing import money, spending
from billing.models import SpendingLimit
from billing.models.spending import NAME
from gateway.configuration.fields import Fields
from gateway.configuration.grants import subject_of
from gateway.configuration.problem import Path, nearest

QUOTA_KEYS = ("capacity", "rate", "period", "on_exceed", "src", "disabled")
# What is done when it is used up: refused, or only told.
ON_EXCEED = {"reject": True, "alert": False}
RATE = re.compile(r"([^/]*)/\s*([a-z]+)\s*")
UNITS = {"min": "minute"} | {period: period for period in spending.PERIOD_S}


@dataclass(frozen=True, slots=True)
class QuotaStatement:
    """One limit's columns, and where it stands."""

    path: Path
    columns: dict[str, Any]


def read_quota(read: Fields, name: str, path: Path, data: dict[str, Any]) -> QuotaStatement:
    """Return a limit's statement."""
    read.unknown_keys(data, path, QUOTA_KEYS)
    wrong = spending.problem(name, "")
    if wrong:
        read.note(path, f'quota "{name}" {wrong}')
    elif NAME.regex.search(name) is None:  # type: ignore[union-attr]
        read.note(path, "a quota's name has 1 to 150 letters, digits, : . _ - and <user>", name)
    if "capacity" not in data:
        read.note(path, 'lacks capacity: dollars such as "$10.00"')
    columns: dict[str, Any] = {
        "capacity_nanos": read_dollars(read, data.get("capacity", 0), (*path, "capacity")),
        "hard": ON_EXCEED[read.choice(data, path, "on_exceed", list(ON_EXCEED), "reject")],
        "subject": read_subject(read, data, path),
        "enabled": not read.flag(data, path, "disabled"),
    }
    return QuotaStatement(path, columns | read_pace(read, data, path))


def read_pace(read: Fields, data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return how it comes back: at a rate, or anew with each period."""
    if "period" in data:
        if "rate" in data:
            read.note(path, "has both a rate and a period; write one of them")
        period = read.choice(data, path, "period", list(UNITS), "day")
        return {"kind": SpendingLimit.CALENDAR, "rate_nanos": 0, "period": UNITS[period]}
    if "rate" not in data:
        read.note(path, 'lacks rate: dollars in a time, such as "$5.00/day" (or a period, for a budget by calendar)')
    nanos, period = read_rate(read, data.get("rate", "0/day"), (*path, "rate"))
    return {"kind": SpendingLimit.REFILL, "rate_nanos": nanos, "period": period}


def read_rate(read: Fields, value: Any, path: Path) -> tuple[int, str]:
    """Return a rate such as `$5.00/day` in nano-dollars, and its period."""
    text = read.checked_text(value, path)
    match = RATE.fullmatch(text)
    if match is None or match[2] not in UNITS:
        if isinstance(value, str):
            unit = nearest(match[2], UNITS) if match else ""
            read.note(path, f'must be dollars in a {", ".join(UNITS)}, such as "$5.00/day"{unit}', value)
        return 0, "day"
    return read_dollars(read, match[1], path), UNITS[match[2]]


def read_dollars(read: Fields, value: Any, path: Path) -> int:
    """Return an amount in nano-dollars."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)
    else:
        before = len(read.problems)
        text = read.checked_text(value, path)
        if len(read.problems) > before:
            return 0
    try:
        nanos = money.of_dollars(text.strip().removeprefix("$")).nanos
    except money.LossyAmount:
        nanos = -1
    if nanos >= 0:
        return nanos
    read.note(path, 'must be dollars such as "$10.00", not negative, with at most 9 decimals', value)
    return 0


def read_subject(read: Fields, data: dict[str, Any], path: Path) -> str:
    """Return whom the limit binds without a grant, or nothing."""
    text = read.text(data, path, "src", longest=250)
    if not text:
        return ""
    subject = text if text.startswith("org:") else subject_of(text)
    if subject is None or not spending.SUBJECT.fullmatch(subject):
        read.note((*path, "src"), "must be *, an e-mail address, group:NAME, tag:LABEL, key:ID or org:ID", text)
        return ""
    return subject


def written(columns: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a limit: what `read_quota` reads as these columns."""
    entry: dict[str, Any] = {"capacity": f"${money.shown(columns['capacity_nanos'])}"}
    if columns["kind"] == SpendingLimit.CALENDAR:
        entry["period"] = columns["period"]
    else:
        entry["rate"] = f"${money.shown(columns['rate_nanos'])}/{columns['period']}"
    entry["on_exceed"] = next(word for word, hard in ON_EXCEED.items() if hard == columns["hard"])
    subject = columns["subject"]
    if subject:
        entry["src"] = "*" if subject == EVERYONE else subject
    if not columns["enabled"]:
        entry["disabled"] = True
    return entry
