"""Idempotency keys: a request that was sent twice is answered and charged once.

A key belongs to an organization and lives for a day. While its request runs, and after it was charged, the same key
is refused; a request that failed gives its key back.
"""

from django.db import models
from django.db.models.functions import Now


class IdempotencyKey(models.Model):
    """A caller's key and the request that has it."""

    id = models.BigAutoField(primary_key=True)
    organization_id = models.BigIntegerField()
    key = models.CharField(max_length=255)
    body_digest = models.BinaryField(max_length=32)
    request_id = models.UUIDField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["request_id"], name="idempotency_key_by_request")]
        constraints = [models.UniqueConstraint(fields=["organization_id", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return self.key
