"""Lists and pairs as people type them: one to a line. Used by forms and commands alike.

What `parse_*` accepts, `render_*` writes back the same.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts.headers import FRAMING_HEADERS

LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
LABEL_VALUE_LENGTH_MAX = 200


def parse_list(text: str) -> list[str]:
    """Return the words of a text that has them one to a line or between commas, each once."""
    return list(dict.fromkeys(word.strip() for word in re.split(r"[\n,]", text) if word.strip()))


def parse_labels(lines: Iterable[str]) -> dict[str, str]:
    """Return labels written `name=value`; raise ValidationError for a line that is none or a name given twice."""
    labels: dict[str, str] = {}
    for line in lines:
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not LABEL_NAME.fullmatch(name) or not value or len(value) > LABEL_VALUE_LENGTH_MAX:
            raise ValidationError(f"{line!r} is not a label: write name=value, such as project=search.")
        if name in labels:
            raise ValidationError(f"The label {name!r} is given twice.")
        labels[name] = value
    return labels


def parse_headers(lines: Iterable[str]) -> dict[str, str]:
    """Return headers written `Name: value`; raise ValidationError for a line that is none."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not value.isprintable():
            raise ValidationError(f"{name!r} is not a header: write Name: value, one to a line.")
        if name.lower() in FRAMING_HEADERS:
            raise ValidationError(f"{name} is the connection's own header and cannot be added.")
        headers[name] = value
    return headers


def parse_network(text: str) -> str:
    """Return an IP address or network in its usual spelling; raise ValidationError for anything else."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValidationError(
            f"{text!r} is not a network: write an address such as 203.0.113.7 or a network such as 2001:db8::/32."
        ) from None


def parse_expiry(text: str) -> datetime:
    """Return the moment that a date (its end, UTC) or an ISO time (UTC unless it says) means, or raise ValueError."""
    try:
        return datetime.combine(date.fromisoformat(text), time.max, tzinfo=UTC)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class ListField(forms.CharField):
    """A list of texts, one to a line."""

    def __init__(self, *, rows: int = 3, **kwargs: Any) -> None:
        super().__init__(widget=UnfoldAdminTextareaWidget(attrs={"rows": rows, "spellcheck": "false"}), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        if "\x00" in (value or ""):
            raise ValidationError("Null characters are not allowed.")
        return super().clean(value)

    def to_python(self, value: Any) -> Any:
        return parse_list(value or "")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return list(initial or []) != parse_list(data or "")


class NetworksField(ListField):
    """A list of IP networks, one to a line."""

    def to_python(self, value: Any) -> Any:
        return [parse_network(word) for word in super().to_python(value)]


class LabelsField(ListField):
    """Labels, `name=value`, one to a line."""

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return "\n".join(f"{name}={text}" for name, text in value.items())
        return value

    def to_python(self, value: Any) -> Any:
        return parse_labels(_lines(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (self.prepare_value(initial) or "").split("\n") != _lines(data)


class HeadersField(LabelsField):
    """Headers, `Name: value`, one to a line."""

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return "\n".join(f"{name}: {text}" for name, text in value.items())
        return value

    def to_python(self, value: Any) -> Any:
        return parse_headers(_lines(value))


def _lines(text: str | None) -> list[str]:
    return [line.strip() for line in (text or "").splitlines() if line.strip()]
