"""Wallets: one for each organization, under the organization's own id.

Invariants, kept by triggers (`billing.triggers`): `posted_nanos` is the sum of the wallet's transfers and `held_nanos`
the sum of its open holds, and nothing else can change either; no hold takes `posted - held` below the overdraft; a
wallet is never deleted. Change single columns (`save(update_fields=…)` or `update`), never the whole row.
"""

from typing import Any

from django.db import models
from django.utils import timezone

from accounts.models import Organization
from billing.models.plan import Plan


class Wallet(models.Model):
    """An organization's money. Unmetered wallets record costs and refuse nothing."""

    PREPAID, UNMETERED = "prepaid", "unmetered"
    MODES = [(PREPAID, "prepaid"), (UNMETERED, "unmetered")]

    organization = models.OneToOneField(
        Organization, primary_key=True, on_delete=models.PROTECT, related_name="wallet", db_constraint=True
    )
    mode = models.CharField(max_length=16, choices=MODES)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="wallets")
    posted_nanos = models.BigIntegerField(default=0, editable=False)
    held_nanos = models.BigIntegerField(default=0, editable=False)
    overdraft_nanos = models.BigIntegerField(default=0, help_text="How far below zero it may be taken on purpose.")
    funded = models.BooleanField(default=False, editable=False, help_text="Whether it has credit: no sandbox limit.")
    frozen_at = models.DateTimeField(null=True, blank=True, help_text="Nothing is admitted while it is set: a dispute.")
    low_balance_nanos = models.BigIntegerField(null=True, blank=True, help_text="A mail is sent below it.")
    low_balance_told_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(held_nanos__gte=0), name="wallet_held_not_negative"),
            models.CheckConstraint(condition=models.Q(overdraft_nanos__gte=0), name="wallet_overdraft_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.organization}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save a new wallet, or the named columns of one; a stale balance is never written back."""
        if not self._state.adding and kwargs.get("update_fields") is None:
            movable = {"posted_nanos", "held_nanos", "funded"}
            kwargs["update_fields"] = [
                field.name
                for field in self._meta.concrete_fields
                if not field.primary_key and field.name not in movable
            ]
        super().save(*args, **kwargs)

    @property
    def available_nanos(self) -> int:
        """What a new hold can take."""
        return self.posted_nanos - self.held_nanos + self.overdraft_nanos
