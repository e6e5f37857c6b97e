"""What separates two images, row by row and column by column, and how it reads. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from catalog import rates
from catalog.models import Price
from gateway.configuration import redaction
from gateway.configuration.image import KINDS, Columns, Image, Key, blank

ADDED, CHANGED, DISABLED, REMOVED = "added", "changed", "disabled", "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One row that differs: the differing columns before and after; None means that there is no row.

    Headers among the columns may be secret: people see `lines`.
    """

    kind: str
    key: Key
    name: str
    before: Columns | None = field(repr=False)
    after: Columns | None = field(repr=False)

    @property
    def action(self) -> str:
        """Tell in one word what happens to the row."""
        if self.before is None:
            return ADDED
        if self.after is None:
            return REMOVED
        return DISABLED if self.before.get("enabled") and self.after.get("enabled") is False else CHANGED

    def lines(self) -> Iterator[str]:
        """Yield the change as text, one line for the row and one for each column; secrets as fingerprints.

        Of a new row, only what is not at its default is told.
        """
        yield f"{self.action} {self.kind} {self.name}"
        if self.action == REMOVED:
            return
        usual = blank(self.kind)
        for column, value in (self.after or {}).items():
            shown = show(self.kind, column, value)
            if self.before is not None:
                yield f"    {column}: {show(self.kind, column, self.before[column])} → {shown}"
            elif column != "source" and value != usual[column]:
                yield f"    {column}: {shown}"


def show(kind: str, column: str, value: Any) -> str:
    """Return a column's value for people, without any secret."""
    if column == "add_headers":
        return str(redaction.headers(value or {}))
    if kind == "price" and isinstance(value, int):
        return f"${rates.to_dollars(value)}"
    if kind == "price" and column == "tiers":
        return "; ".join(map(tier, value)) or "none"
    return "none" if value is None else repr(value) if value == "" else str(value)


def tier(columns: Columns) -> str:
    """Return a price's tier for people."""
    above = columns["above_context_tokens"]
    size = "" if above is None else f"above {above} tokens"
    dollars = ", ".join(
        f"{part} ${rates.to_dollars(columns[part])}" for part in Price.PARTS if columns[part] is not None
    )
    return f"{' '.join(filter(None, [columns['service_tier'], size]))}: {dollars}"


def between(before: Image, after: Image) -> list[Change]:
    """Return the changes that turn one image into the other, in the order in which they can be written."""
    changes: list[Change] = []
    for kind in KINDS:
        old, new = before[kind], after[kind]
        for key, columns in new.items():
            if key not in old:
                changes.append(Change(kind, key, name_of(kind, key, columns), None, columns))
            elif columns != old[key]:
                names = [name for name, value in columns.items() if old[key][name] != value]
                was, now = ({name: row[name] for name in names} for row in (old[key], columns))
                changes.append(Change(kind, key, name_of(kind, key, columns), was, now))
        changes += [Change(kind, key, name_of(kind, key, old[key]), old[key], None) for key in old if key not in new]
    return changes


def name_of(kind: str, key: Key, columns: Columns) -> str:
    """Return what people call a row."""
    if kind == "grant":
        rights = " ".join(filter(None, [columns["role"], ", ".join(columns["model_globs"])]))
        return columns["name"] or f"{', '.join(columns['subjects']) or 'nobody'} → {rights or 'nothing'}"
    if kind in ("target", "price"):
        return f"{key[0]} → {key[1]}/{key[2]}"
    return " ".join(map(str, key))
