"""What callers may ask: explicit fields, and nothing that is not one of them.

A misspelt filter would answer too much, and a misspelt setting would change nothing, so unknown names are refused.
"""

from datetime import UTC, date, datetime
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request

from billing.money import NANOS_MAX

LIMIT, LIMIT_MAX = 50, 500
RANGE_DAYS, RANGE_DAYS_MAX = 30, 3660


class Strict(serializers.Serializer[Any]):
    """Fields by name; an unknown one is refused."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = [name for name in data if name not in self.fields]
        if unknown:
            known = ", ".join(sorted(self.fields))
            raise serializers.ValidationError({str(unknown[0]): [f"There is no such field here; there are {known}."]})
        return super().to_internal_value(data)


class Query(Strict):
    """What every reading address takes."""

    organization = serializers.CharField(required=False, help_text="For browsers; the view itself has read it.")


class Page(Query):
    """A page of a list, newest first."""

    limit = serializers.IntegerField(min_value=1, max_value=LIMIT_MAX, default=LIMIT)


def moment_field() -> serializers.DateTimeField:
    """Return the field of a moment; one without an offset is UTC."""
    return serializers.DateTimeField(required=False, default_timezone=UTC)


class MomentRange(Query):
    """Moments from (included) and to (excluded), and the place to go on from."""

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python's.
        return {**super().get_fields(), "from": moment_field(), "to": moment_field()}


class DayRange(Query):
    """Whole days (UTC), both included; thirty up to today by default."""

    def get_fields(self) -> dict[str, Any]:
        days = {name: serializers.DateField(required=False) for name in ("from", "to")}
        return {**super().get_fields(), **days}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        last: date = attrs.get("to") or timezone.now().astimezone(UTC).date()
        first: date = attrs.get("from") or date.fromordinal(max(1, last.toordinal() - RANGE_DAYS + 1))
        if first > last:
            raise serializers.ValidationError({"from": ["It is after `to`."]})
        if (last - first).days >= RANGE_DAYS_MAX:
            raise serializers.ValidationError({"from": [f"Ask for at most {RANGE_DAYS_MAX} days at once."]})
        return {**attrs, "from": first, "to": last}


class IdField(serializers.IntegerField):
    """A row's id."""

    def __init__(self, **about: Any) -> None:
        super().__init__(min_value=1, max_value=NANOS_MAX, required=False, **about)


def asked(form: type[Strict], request: Request) -> dict[str, Any]:
    """Return what a reading request asks for; raise ValidationError."""
    query = form(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return dict(query.validated_data)


def sent(form: type[Strict], request: Request) -> dict[str, Any]:
    """Return what a writing request says; raise ValidationError."""
    body = form(data=request.data if isinstance(request.data, dict) else {})
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def iso(moment: datetime) -> str:
    """Return a moment as the API writes it: UTC, microseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
