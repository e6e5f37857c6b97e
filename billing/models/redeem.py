"""Redeem codes: credit that is handed out on paper, made in batches.

Only a keyed digest of a code is kept (`billing.redeem`); the code itself is shown once, when its batch is made. A code
is good for one redemption, until its batch expires or is stopped. `form` is the token of the page that a batch was
made on, so that sending that page again makes no second batch.
"""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from accounts.models import Organization, User

CODES_MAX = 10_000


class RedeemBatch(models.Model):
    """Codes that were made together, each for the same amount."""

    form = models.UUIDField(unique=True, editable=False)
    note = models.CharField(max_length=200, help_text="What they are for, such as a campaign's name.")
    amount_nanos = models.BigIntegerField()
    codes_count = models.PositiveIntegerField(
        "number of codes", validators=[MinValueValidator(1), MaxValueValidator(CODES_MAX)]
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty means never.")
    stopped_at = models.DateTimeField(null=True, editable=False)
    actor = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "batch of redeem codes"
        verbose_name_plural = "redeem codes"
        constraints = [
            models.CheckConstraint(condition=models.Q(amount_nanos__gt=0), name="redeem_amount_above_zero"),
        ]

    def __str__(self) -> str:
        return self.note


class RedeemCode(models.Model):
    """One code, and who redeemed it."""

    batch = models.ForeignKey(RedeemBatch, on_delete=models.PROTECT, related_name="codes")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    redeemed_at = models.DateTimeField(null=True, editable=False)
    organization = models.ForeignKey(Organization, null=True, on_delete=models.PROTECT, related_name="+")
    user = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(redeemed_at=None, organization=None, user=None)
                | models.Q(redeemed_at__isnull=False, organization__isnull=False, user__isnull=False),
                name="redeem_code_redeemed_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"code {self.pk} of {self.batch}"
