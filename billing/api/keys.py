"""The API of keys, below /api/keys: list, make, reset, revoke, and fetch a secret that waits.

Whoever owns an organization has all of its keys, a member the own ones, and for everybody else there is none (404).
A browser's session may do everything. A key reads with `keys:read`, and with `keys:write`, which must be named, it
resets or revokes itself only, and not by a former secret: so a key never becomes another. Invariants: a clear secret
is in one answer and in no row, so these writes keep no answer for an `Idempotency-Key`; labels are the operator's to
give, for grants name them. This is not about money; it is here because the API's base is.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import handover, keys, lines, rotation
from accounts.models import ROTATION_DAYS_MIN, APIKey, User
from billing.api.errors import Fault
from billing.api.queries import LIMIT, LIMIT_MAX, Query, Strict, asked, iso, sent
from billing.api.view import KEYS_READ, KEYS_WRITE, PK_MAX, READ, SAFE, WRITE, CallerView, find

SCOPES = (READ, WRITE, KEYS_READ, KEYS_WRITE)
# Enough for people and their machines; a loop that makes keys ends.
LIVE_KEYS_MAX = 200


class KeyList(Query):
    """A page of keys: those made before the one with this id."""

    limit = serializers.IntegerField(min_value=1, max_value=LIMIT_MAX, default=LIMIT)
    before = serializers.IntegerField(min_value=1, max_value=PK_MAX, required=False)


class NewKey(Strict):
    """A key's name and bounds, as they are called in the answers."""

    name = serializers.CharField(max_length=150)
    models = serializers.ListField(child=serializers.CharField(max_length=256), max_length=200, default=list)
    addresses = serializers.ListField(child=serializers.CharField(max_length=64), max_length=200, default=list)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES), default=list)
    expires_at = serializers.DateTimeField(default=None, allow_null=True, default_timezone=UTC)
    rotate_after_days = serializers.IntegerField(
        min_value=ROTATION_DAYS_MIN, max_value=3660, default=None, allow_null=True
    )

    def validate_addresses(self, value: list[str]) -> list[str]:
        try:
            return [lines.parse_network(each.strip()) for each in value]
        except ValidationError as error:
            raise serializers.ValidationError(error.messages) from None

    def validate_expires_at(self, value: Any) -> Any:
        if value is not None and value <= timezone.now():
            raise serializers.ValidationError("It is in the past.")
        return value


class ResetBody(Strict):
    """How long the former secret is still accepted; and which one it is, where another reset must not be overrun."""

    overlap_seconds = serializers.IntegerField(min_value=0, max_value=rotation.OVERLAP_S_MAX, default=0)
    display = serializers.CharField(max_length=16, required=False)


class Nothing(Strict):
    """A body that says nothing."""


class KeyView(CallerView):
    """A view on the keys that the caller manages."""

    scopes: ClassVar[tuple[str, str]] = (KEYS_READ, KEYS_WRITE)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Raise Fault also for a former secret that would change its key: whoever has it would get the next one."""
        super().initial(request, *args, **kwargs)
        if self.key is not None and self.key.former and request.method not in SAFE:
            raise Fault("scope_required", "A former secret changes nothing; use the key's present one, or sign in.")

    def seen(self) -> QuerySet[APIKey]:
        """Return the caller's keys: a key sees its organization's, and changes itself only."""
        found = APIKey.objects.managed_by(self.caller).select_related("user").prefetch_related("retired")
        if self.key is None:
            return found
        if self.request.method in SAFE:
            return found.filter(organization_id=self.key.organization_id)
        return found.filter(pk=self.key.key_id)

    def one(self, key_id: int) -> APIKey:
        """Return a key; raise Fault 404 for one that the caller does not manage."""
        key = self.seen().filter(pk=key_id).first() if key_id <= PK_MAX else None
        if key is None:
            own = " A key resets and revokes itself only; sign in for the others." if self.key is not None else ""
            raise Fault("not_found", f"You have no key {key_id}; GET /api/keys lists yours.{own}")
        return key


class Keys(KeyView):
    """All of an organization's keys, or the caller's own there."""

    def get(self, request: Request) -> Response:
        """Return a page of keys, the newest first, and where the next one begins."""
        wanted = asked(KeyList, request)
        organization, _ = find(self.caller, self.key, wanted.get("organization"))
        rows = self.seen().filter(organization=organization).order_by("-pk")
        if "before" in wanted:
            rows = rows.filter(pk__lt=wanted["before"])
        found = list(rows[: wanted["limit"] + 1])
        page = found[: wanted["limit"]]
        return Response(
            {
                "data": shapes(page),
                "next_before": page[-1].pk if len(found) > len(page) else None,
            }
        )

    def post(self, request: Request) -> Response:
        """Make a key of the caller's own and return it with its secret, once; raise Fault 400, 403 or 404."""
        if self.key is not None:
            raise Fault("scope_required", "A key makes no keys; sign in to make one.")
        organization, _ = find(self.caller, None, request.query_params.get("organization"))
        body = sent(NewKey, request)
        row = APIKey(
            organization=organization,
            user=self.caller,
            name=body["name"],
            model_globs=body["models"],
            ip_allowlist=body["addresses"],
            scopes=body["scopes"],
            expires_at=body["expires_at"],
            rotate_after_days=body["rotate_after_days"],
        )
        with transaction.atomic():
            # One at a time, or many at once would all find room.
            User.objects.select_for_update(no_key=True).get(pk=self.caller.pk)
            if APIKey.objects.live(timezone.now()).filter(user=self.caller).count() >= LIVE_KEYS_MAX:
                raise Fault("invalid_parameter", f"You have {LIVE_KEYS_MAX} live keys; revoke one first.", param="name")
            secret = keys.issue(row)
            note(self.caller, row, ADDITION, "Made by API.")
        return Response({"key": shape(row), "secret": secret}, status=201)


class Key(KeyView):
    """One key."""

    def get(self, _request: Request, key_id: int) -> Response:
        """Return the key."""
        return Response(shape(self.one(key_id)))


class Reset(KeyView):
    """Another secret for a key."""

    def post(self, request: Request, key_id: int) -> Response:
        """Return the key with its new secret, once; raise Fault 400, 404, or 409 where somebody else was faster."""
        body, key = sent(ResetBody, request), self.one(key_id)
        before, overlap_s = key.display, body["overlap_seconds"]
        if body.get("display", before) != before:
            raise Fault("key_changed", f"Key {key_id} is {before} by now: it was reset since. Look, then reset it.")
        try:
            with transaction.atomic():
                secret = rotation.reset(key, overlap_s=overlap_s)
                note(self.caller, key, CHANGE, f"Reset by API: {before} is refused{after(overlap_s)}.")
        except rotation.AlreadyReset as refusal:
            raise Fault("key_changed", str(refusal)) from None
        except rotation.DeadKey as refusal:
            raise Fault("invalid_parameter", str(refusal)) from None
        return Response({"key": shape(key), "secret": secret})


class EndOverlap(KeyView):
    """The early end of a former secret."""

    def post(self, request: Request, key_id: int) -> Response:
        """Return the key, of which only the present secret is accepted from now on."""
        sent(Nothing, request)
        key = self.one(key_id)
        if rotation.end_overlap(key):
            note(self.caller, key, CHANGE, "Ended the overlap by API.")
        return Response(shape(self.one(key_id)))


class Revoke(KeyView):
    """The end of a key."""

    def post(self, request: Request, key_id: int) -> Response:
        """Return the key, which is refused everywhere in under a second, for good; it may have been before."""
        sent(Nothing, request)
        key = self.one(key_id)
        # One that leaked would live again with another secret.
        if key.revoked_at is None or key.revoked_for:
            key.revoke(timezone.now())
            note(self.caller, key, CHANGE, "Revoked by API.")
        return Response(shape(key))


class Collect(KeyView):
    """A secret that was made while the owner was away."""

    def post(self, request: Request, key_id: int) -> Response:
        """Return the waiting secret, once; raise Fault 404 where none waits, and 403 for a key."""
        if self.key is not None:
            raise Fault("scope_required", "A waiting secret is for whoever signs in, not for a key.")
        sent(Nothing, request)
        key = self.one(key_id)
        secret = handover.collect(self.caller, key)
        if secret is None:
            raise Fault(
                "not_found", f"No secret waits for key {key_id}: it was fetched, or its time is over; reset it."
            )
        note(self.caller, key, CHANGE, "Fetched the new secret by API.")
        return Response({"key": shape(key), "secret": secret})


def after(overlap_s: int) -> str:
    """Return when a former secret is refused, for the log."""
    return f" after {overlap_s} s" if overlap_s else ""


def note(user: User, key: APIKey, flag: int, message: str) -> None:
    """Keep in Django's log of changes who did what to a key."""
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(APIKey),
        object_id=str(key.pk),
        object_repr=str(key)[:200],
        action_flag=flag,
        change_message=message,
    )


def shape(key: APIKey) -> dict[str, Any]:
    """Return a key as the API shows it, without its secret."""
    return shapes([key])[0]


def shapes(rows: list[APIKey]) -> list[dict[str, Any]]:
    """Return keys as the API shows them."""
    waiting, now = handover.waiting_until([key.pk for key in rows]), timezone.now()
    return [_shape(key, waiting.get(key.pk), now) for key in rows]


def _shape(key: APIKey, waits_until: datetime | None, now: datetime) -> dict[str, Any]:
    former = key.accepted_former(now)
    moments = {
        "created_at": key.created_at,
        "issued_at": key.issued_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "secret_waits_until": waits_until,
        "former_accepted_until": former.accepted_until if former else None,
    }
    return {
        "id": key.pk,
        "organization": key.organization_id,
        "user": key.user_id,
        "user_email": key.user.email,
        "name": key.name,
        "display": key.display,
        "former_display": former.display if former else None,
        "state": key.state(now),
        "models": key.model_globs,
        "addresses": key.ip_allowlist,
        "scopes": key.scopes,
        "labels": key.labels,
        "rotate_after_days": key.rotate_after_days,
        **{name: iso(moment) if moment else None for name, moment in moments.items()},
    }
