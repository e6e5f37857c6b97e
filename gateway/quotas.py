"""The API of spending limits, below /api/quotas: what is left of those that bind the caller, and their refill.

A key with a role by grants, or a browser's session, sees the buckets of its own requests; the role admin, and an
operator's session, see all and may refill; a key also needs the scopes that `billing.api.view` asks for. What a caller
cannot see does not exist for it (404). Amounts in answers are nano-dollars; `current` is what is left.
"""

from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import subjects
from accounts.acceptance import Accepted
from accounts.models import APIKey, Grant, Organization, User
from billing import buckets, money, spending
from billing.api.errors import Fault
from billing.api.idempotency import once
from billing.api.queries import Strict, sent
from billing.api.view import CallerView
from billing.buckets import Standing
from billing.models import Bucket, SpendingLimit
from gateway.spending import Binding, bind, gather, limit_of

LISTED_MAX = 1000


class RefillBody(Strict):
    """Which bucket, by the name that the list shows; how much, all of it by default; and why."""

    bucket = serializers.CharField(max_length=500)
    amount = serializers.CharField(max_length=40, required=False)
    reason = serializers.CharField(max_length=500, required=False, default="")


class QuotaView(CallerView):
    """Whoever asks: its subjects, whether it is an admin, and which limits bind it."""

    is_admin = False
    binding: Binding

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate and work out the role; raise Fault 401, or 403 without a role."""
        super().initial(request, *args, **kwargs)
        key = self.key
        self.organization = Organization.objects.get(pk=key.organization_id) if key else self.caller.personal
        own = subjects_of(self.caller, key)
        granted = Grant.objects.filter(enabled=True).order_by("pk")
        matching = [grant for grant in granted if own & {subjects.normal(subject) for subject in grant.subjects}]
        operator = key is None and self.caller.is_staff and self.caller.has_perm("billing.change_bucket")
        self.is_admin = operator or any(grant.role == Grant.ADMIN for grant in matching)
        if not self.is_admin and not any(grant.role for grant in matching):
            raise Fault("no_role_granted", "access denied: no role granted")
        columns = SpendingLimit.objects.order_by("pk").values("id", "name", "subject", "enabled")
        self.binding = bind(
            gather(map(limit_of, columns)),
            [name for grant in matching for name in grant.quotas],
            (*own, f"org:{self.organization.pk}"),
            self.caller.pk,
        )

    def seen(self) -> list[Standing]:
        """Return the buckets that the caller sees, in the order of their names; an admin sees LISTED_MAX of others."""
        now = timezone.now()
        limits = {limit.pk: limit for limit in SpendingLimit.objects.filter(enabled=True)}
        wanted = set(self.binding.buckets)
        if self.is_admin:
            wanted |= {(limit.pk, "") for limit in limits.values() if spending.USER not in limit.name}
        rows = Bucket.objects.filter(limit__enabled=True).select_related("limit").order_by("limit__name", "subject")
        near = rows.filter(
            limit_id__in={limit_id for limit_id, _ in wanted}, subject__in={subject for _, subject in wanted}
        )
        own = [row for row in near if (row.limit_id, row.subject) in wanted]
        there = {(row.limit_id, row.subject) for row in own}
        others = [row for row in rows[:LISTED_MAX] if row not in own] if self.is_admin else []
        found = buckets.standings([*own, *others], now)
        found += [buckets.untouched(limits[key[0]], key[1], now) for key in wanted - there if key[0] in limits]
        return sorted(found, key=lambda standing: standing.name)


class Quotas(QuotaView):
    """The list."""

    def get(self, _request: Request) -> Response:
        """Return the buckets; `problem` tells why all requests of the caller are refused, where they are."""
        answer: dict[str, Any] = {"buckets": [shape(standing) for standing in self.seen()]}
        if self.binding.problem:
            answer["problem"] = self.binding.problem
        return Response(answer)


class Quota(QuotaView):
    """One bucket by its name."""

    def get(self, _request: Request, name: str) -> Response:
        """Return the bucket; raise Fault 404 for one that the caller does not see."""
        for standing in self.seen():
            if standing.name == name:
                return Response(shape(standing))
        raise unknown(name)


class Refill(QuotaView):
    """Giving back what was spent of a bucket."""

    def post(self, request: Request) -> Any:
        """Refill and return the bucket; raise Fault 403 without the role admin, 404 or 400."""
        if not self.is_admin:
            raise Fault("role_required", "This takes the role admin.")
        body = sent(RefillBody, request)
        amount = None if "amount" not in body else dollars(body["amount"])
        standing = find(body["bucket"])

        def give() -> Response:
            if not standing.bucket.id:
                return Response({"refilled": 0, "bucket": shape(standing)})
            given = buckets.refill(standing.bucket.id, amount)
            row = Bucket.objects.select_related("limit").get(pk=standing.bucket.id)
            note(
                self.caller, row, f"Refilled {standing.name} by ${money.shown(given)} by API. {body['reason']}".strip()
            )
            return Response({"refilled": given, "bucket": shape(buckets.standings([row], timezone.now())[0])})

        return once(self, request, give)


def subjects_of(user: User, key: Accepted | None) -> frozenset[str]:
    """Return the subjects that a user is, with its key's if it shows one."""
    groups = list(user.aperture_groups.values_list("name", flat=True))
    if key is None:
        return subjects.of_caller(email=user.email, groups=groups, labels={}, key_id=None)
    labels = APIKey.objects.values_list("labels", flat=True).get(pk=key.key_id)
    return subjects.of_caller(email=user.email, groups=groups, labels=labels, key_id=key.key_id)


def find(name: str) -> Standing:
    """Return the bucket of this name, which may not have been used yet; raise Fault 404."""
    for limit in SpendingLimit.objects.order_by("pk"):
        subject = subject_of(limit.name, name)
        if subject is not None:
            rows: QuerySet[Bucket] = Bucket.objects.filter(limit=limit, subject=subject).select_related("limit")
            found = buckets.standings(rows, timezone.now())
            return found[0] if found else buckets.untouched(limit, subject, timezone.now())
    raise unknown(name)


def subject_of(template: str, name: str) -> str | None:
    """Return whose bucket of a limit bears this name, or None: the user's whose e-mail is in the template's place."""
    if spending.USER not in template:
        return "" if template == name else None
    start, _, end = template.partition(spending.USER)
    if not (name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end)):
        return None
    user = User.objects.filter(email__iexact=name[len(start) : len(name) - len(end)]).first()
    return None if user is None else spending.bucket_subject(template, user.pk)


def dollars(text: str) -> int:
    """Return an amount such as `$5.00` in nano-dollars; raise Fault 400."""
    try:
        nanos = money.of_dollars(text.strip().removeprefix("$")).nanos
    except money.LossyAmount as error:
        raise Fault("invalid_parameter", str(error), param="amount") from None
    if nanos <= 0:
        raise Fault("invalid_parameter", "Write an amount above zero, such as $5.00.", param="amount")
    return nanos


def note(user: User, row: Bucket, message: str) -> None:
    """Keep in Django's log of changes who did what to a bucket."""
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(Bucket),
        object_id=str(row.pk),
        object_repr=str(row)[:200],
        action_flag=CHANGE,
        change_message=message,
    )


def shape(standing: Standing) -> dict[str, Any]:
    """Return a bucket as the API shows it; amounts are nano-dollars."""
    bucket = standing.bucket
    full_at = standing.full_at
    return {
        "name": standing.name,
        "limit": bucket.name,
        "kind": "quota" if bucket.kind == spending.REFILL else "budget",
        "current": standing.left_nanos,
        "capacity": bucket.capacity,
        "spent": bucket.spent,
        "held": bucket.held,
        "rate": bucket.rate,
        "period": bucket.period,
        "hard": bucket.hard,
        "full_at": None if full_at is None else full_at.isoformat().replace("+00:00", "Z"),
    }


def unknown(name: str) -> Fault:
    """Return the fault of a bucket that does not exist, for this caller at least."""
    return Fault("not_found", f"There is no quota {name[:200]!r}; GET /api/quotas lists yours.")
