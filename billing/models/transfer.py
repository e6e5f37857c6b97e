"""Transfers: the ledger. Each takes an amount from one account to another, so the books balance by construction.

An account is a wallet (its organization's id) or one of the house's (`House`, below zero). House accounts have no row
and no running balance: theirs is a sum, so nothing is shared by all. A foreign key would make every settlement lock
the same rows; instead the trigger that moves `posted` refuses an account that does not exist.

Invariants, kept by the database: transfers are append-only (trigger); amounts are above zero; one of each kind for a
request; a business key (`reference`) is posted once; a correction names what it corrects.
"""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now

from billing import money


class House(models.IntegerChoices):
    """The house's accounts."""

    UPSTREAM_COST = -1, "upstream cost"
    UPSTREAM_PAYABLE = -2, "owed to upstreams"
    REVENUE = -3, "revenue"
    CLEARING = -4, "payment clearing"
    PROMOTIONS = -5, "promotions"
    REFUNDS = -6, "refunds"
    BAD_DEBT = -7, "bad debt"
    ADJUSTMENTS = -8, "adjustments"


class Kind(models.IntegerChoices):
    """Why money moved."""

    CHARGE = 1, "usage"
    COST = 2, "upstream cost"
    TOP_UP = 3, "top-up"
    REFUND = 4, "refund"
    DISPUTE = 5, "dispute"
    DISPUTE_WON = 6, "dispute won"
    PLAN_CREDIT = 7, "plan credit"
    REDEEM = 8, "redeem code"
    CREDIT = 9, "credit"
    DEBIT = 10, "debit"
    CORRECTION = 11, "correction"
    WRITE_OFF = 12, "write-off"


class Transfer(models.Model):
    """AMOUNT goes from the debited account to the credited one."""

    id = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField(db_default=Now())
    amount_nanos = models.BigIntegerField()
    debit_id = models.BigIntegerField(help_text="The account that gives.")
    credit_id = models.BigIntegerField(help_text="The account that takes.")
    request_id = models.UUIDField(null=True)
    corrects = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="corrections")
    actor_id = models.BigIntegerField(null=True, help_text="The user who posted it, if one did.")
    kind = models.PositiveSmallIntegerField(choices=Kind.choices)
    reference = models.CharField(max_length=255, null=True, help_text="A business key, posted once.")  # noqa: DJ001
    reason = models.TextField(null=True)  # noqa: DJ001

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(amount_nanos__gt=0), name="transfer_amount_above_zero"),
            models.CheckConstraint(condition=~models.Q(debit_id=models.F("credit_id")), name="transfer_two_accounts"),
            models.CheckConstraint(
                condition=models.Q(debit_id__gte=min(House), credit_id__gte=min(House))
                & ~models.Q(debit_id=0)
                & ~models.Q(credit_id=0),
                name="transfer_known_accounts",
            ),
            models.CheckConstraint(
                condition=models.Q(corrects__isnull=False) | ~models.Q(kind=Kind.CORRECTION),
                name="transfer_correction_names_what",
            ),
            models.UniqueConstraint(
                fields=["request_id", "kind"],
                condition=models.Q(request_id__isnull=False),
                name="transfer_once_for_request",
            ),
            models.UniqueConstraint(
                fields=["reference"], condition=models.Q(reference__isnull=False), name="transfer_reference_once"
            ),
        ]
        indexes = [
            models.Index(fields=["debit_id", "id"], condition=models.Q(debit_id__gt=0), name="transfer_by_payer"),
            models.Index(fields=["credit_id", "id"], condition=models.Q(credit_id__gt=0), name="transfer_by_payee"),
            # A few kilobytes for all rows: a month's sums and a page of the ledger read that month alone.
            BrinIndex(fields=["created_at"], autosummarize=True, name="transfer_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of ${money.shown(self.amount_nanos)}"
