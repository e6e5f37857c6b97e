"""Idempotency keys of the money API: a write that was sent twice is done once and answered the same.

A row is the answer of a write that had begun; it lives for a day (`billing.api.idempotency`). A write that runs has no
row but a lock, which goes with the connection of whoever runs it.
"""

from django.db import models
from django.db.models.functions import Now


class ApiIdempotency(models.Model):
    """The answer to a caller's key."""

    id = models.BigAutoField(primary_key=True)
    organization_id = models.BigIntegerField()
    path = models.CharField(max_length=100)
    key = models.CharField(max_length=255)
    body_digest = models.BinaryField(max_length=32)
    status = models.SmallIntegerField()
    answer = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization_id", "path", "key"], name="api_idempotency_once"),
        ]

    def __str__(self) -> str:
        return f"{self.path} {self.key}"
