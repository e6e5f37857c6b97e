"""Usage: exactly one row for each finished request.

The rows name keys, users and targets by id without foreign keys: a row outlives what it names, and no lock is taken
on those tables when it is written. `journal` is the only writer.
"""

from django.db import models
from django.db.models.functions import Now


class Usage(models.Model):
    """One finished request: who, what, how much, how long. Never a word of its prompt or answer."""

    request_id = models.UUIDField(primary_key=True)
    created_at = models.DateTimeField(db_default=Now())
    key_id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    organization_id = models.BigIntegerField()
    provider_id = models.BigIntegerField(null=True)
    target_id = models.BigIntegerField(null=True)
    price_id = models.BigIntegerField(null=True)
    model = models.CharField(max_length=256, help_text="As the caller asked for it.")
    dialect = models.CharField(max_length=32)
    streamed = models.BooleanField(default=False)
    status = models.PositiveSmallIntegerField()
    error_code = models.CharField(max_length=64, blank=True)
    input_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    audio_tokens = models.BigIntegerField(default=0)
    usage_source = models.CharField(max_length=16, help_text="provider, estimate or none")
    cost_nanos = models.BigIntegerField(default=0)
    first_byte_ms = models.IntegerField(null=True)
    duration_ms = models.IntegerField()
    session_id = models.CharField(max_length=64, blank=True)
    client = models.CharField(max_length=64, blank=True)

    class Meta:
        verbose_name_plural = "usage"
        indexes = [
            models.Index(fields=["organization_id", "-created_at"], name="usage_by_organization"),
            models.Index(fields=["-created_at"], name="usage_by_time"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(cost_nanos__gte=0), name="usage_cost_not_negative"),
            models.CheckConstraint(
                condition=models.Q(
                    input_tokens__gte=0,
                    cache_read_tokens__gte=0,
                    cache_write_tokens__gte=0,
                    output_tokens__gte=0,
                    reasoning_tokens__gte=0,
                    audio_tokens__gte=0,
                ),
                name="usage_tokens_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} {self.model} {self.status}"
