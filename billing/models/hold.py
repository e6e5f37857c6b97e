"""Open holds: the write-ahead record of every request that was let through to an upstream.

A hold's row is there exactly as long as the request is undecided. Settling and voiding delete it in the transaction
that writes the request's usage row, so the closed hold is that row, and a request is decided at most once. A hold
whose lease has ended is settled from `unfinished`: the usage row that its request would have left at its last mark.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now


class Hold(models.Model):
    """What a running request may cost at most."""

    request_id = models.UUIDField(primary_key=True)
    organization_id = models.BigIntegerField()
    amount_nanos = models.BigIntegerField()
    metered = models.BooleanField(help_text="Whether the wallet pays; else it only records.")
    bucket_ids = ArrayField(models.BigIntegerField(), default=list)
    lease_until = models.DateTimeField()
    unfinished = models.JSONField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(amount_nanos__gte=0), name="hold_amount_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanos} for {self.request_id}"
