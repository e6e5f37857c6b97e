"""Spending limits: dollars for a subject, refilled continuously (a quota) or by calendar (a budget).

A limit is a definition; its buckets are the amounts, one for each subject that the template names (`<user>`), made on
first need. Buckets take holds like wallets do, in the same transaction. `spent_nanos` is what was spent as of
`measured_at`: a quota's shrinks by the rate, a budget's starts anew with each period (`billing.spending`).
"""

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from accounts import subjects
from billing import spending

NAME = RegexValidator(r"^[A-Za-z0-9:._<>-]{1,150}$", "Use letters, digits and : . _ - and <user>.")


class SpendingLimit(models.Model):
    """How much may be spent, by whom, in what time."""

    REFILL, CALENDAR = spending.REFILL, spending.CALENDAR
    KINDS = [(REFILL, "refills continuously"), (CALENDAR, "by calendar")]
    PERIODS = [(each, each) for each in spending.PERIOD_S]

    name = models.CharField(
        max_length=150, unique=True, validators=[NAME], help_text="As grants name it; <user> makes one for each user."
    )
    kind = models.CharField(max_length=16, choices=KINDS, default=REFILL)
    capacity_nanos = models.BigIntegerField(validators=[MinValueValidator(0)])
    rate_nanos = models.BigIntegerField(
        default=0, validators=[MinValueValidator(0)], help_text="What flows back in each period, where it refills."
    )
    period = models.CharField(max_length=16, choices=PERIODS, default="day")
    hard = models.BooleanField(default=True, help_text="Refuse when it is used up; else only tell.")
    subject = models.CharField(
        max_length=254,
        blank=True,
        help_text="Who it binds without a grant: everyone, user:EMAIL, group:NAME, tag:LABEL, key:ID or org:ID.",
    )
    enabled = models.BooleanField(default=True)
    source = models.CharField(max_length=16, default="admin", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        # What the arithmetic relies on, whoever writes the row.
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind__in=("refill", "calendar"), period__in=tuple(spending.PERIOD_S)),
                name="spendinglimit_known_kind",
            ),
            models.CheckConstraint(
                condition=models.Q(capacity_nanos__gte=0, rate_nanos__gte=0), name="spendinglimit_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        self.subject = subjects.normal(self.subject)
        wrong = spending.problem(self.name, self.subject)
        if wrong:
            raise ValidationError(f"{self.name!r} {wrong}.")


class Bucket(models.Model):
    """One subject's part of a limit."""

    id = models.BigAutoField(primary_key=True)
    limit = models.ForeignKey(SpendingLimit, on_delete=models.CASCADE, related_name="buckets")
    subject = models.CharField(max_length=254, blank=True)
    spent_nanos = models.BigIntegerField(default=0)
    held_nanos = models.BigIntegerField(default=0)
    measured_at = models.DateTimeField(db_default=Now())
    # The highest share that was told, and when.
    alerted_percent = models.PositiveSmallIntegerField(default=0, editable=False)
    alerted_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["limit", "subject"], name="bucket_once"),
            models.CheckConstraint(condition=models.Q(held_nanos__gte=0), name="bucket_held_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.limit} {self.subject}".strip()
