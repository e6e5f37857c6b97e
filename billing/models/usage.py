"""Usage: exactly one row for each finished request, and their sums by day.

The table is partitioned by month along the request id, a UUID version 7 that begins with the time: so the primary key
is unique over all partitions, one month's rows lie together, and an old month is detached as a whole. The rows name
keys, users and targets by id without foreign keys: a row outlives what it names, and no lock is taken on those tables
when it is written. `journal` is the only writer.
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
    cost_nanos = models.BigIntegerField(default=0, help_text="What the upstream costs the house.")
    charge_nanos = models.BigIntegerField(default=0, help_text="What the organization's wallet paid.")
    markup_ppm = models.IntegerField(default=1_000_000, help_text="Charge for each million of cost, when it was made.")
    first_byte_ms = models.IntegerField(null=True)
    duration_ms = models.IntegerField()
    input_tokens = models.IntegerField(default=0)
    cache_read_tokens = models.IntegerField(default=0)
    cache_write_tokens = models.IntegerField(default=0)
    output_tokens = models.IntegerField(default=0)
    reasoning_tokens = models.IntegerField(default=0)
    audio_tokens = models.IntegerField(default=0)
    searches = models.SmallIntegerField(default=0)
    status = models.SmallIntegerField()
    streamed = models.BooleanField(default=False)
    model = models.CharField(max_length=256, help_text="As the caller asked for it.")
    dialect = models.CharField(max_length=32)
    error_code = models.CharField(max_length=64, blank=True)
    usage_source = models.CharField(max_length=16, help_text="provider, partial, estimate or none")
    service_tier = models.CharField(max_length=16, blank=True)
    session_id = models.CharField(max_length=64, blank=True)
    client = models.CharField(max_length=64, blank=True)
    labels = models.JSONField(null=True)

    class Meta:
        verbose_name_plural = "usage"
        indexes = [
            models.Index(fields=["organization_id", "request_id"], name="usage_by_organization"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(cost_nanos__gte=0, charge_nanos__gte=0), name="usage_cost_not_negative"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    input_tokens__gte=0,
                    cache_read_tokens__gte=0,
                    cache_write_tokens__gte=0,
                    output_tokens__gte=0,
                    reasoning_tokens__gte=0,
                    audio_tokens__gte=0,
                    searches__gte=0,
                ),
                name="usage_tokens_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} {self.model} {self.status}"


class UsageSums(models.Model):
    """What one key used of one model at one provider in a while (UTC). `provider_id` is 0 where none was called."""

    organization_id = models.BigIntegerField()
    key_id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    model = models.CharField(max_length=256)
    provider_id = models.BigIntegerField(default=0)
    requests_count = models.BigIntegerField(default=0)
    failed_count = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    audio_tokens = models.BigIntegerField(default=0)
    duration_ms = models.BigIntegerField(default=0)
    cost_nanos = models.BigIntegerField(default=0)
    charge_nanos = models.BigIntegerField(default=0)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"organization {self.organization_id}, {self.model}"


class UsageHour(UsageSums):
    """The sums of an hour that is over, by when its requests began; `billing.rollups` makes them from the rows."""

    id = models.BigAutoField(primary_key=True)
    hour = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["hour"], name="usage_hour_by_hour")]
        constraints = [
            models.UniqueConstraint(
                fields=["organization_id", "hour", "key_id", "user_id", "model", "provider_id"], name="usage_hour_once"
            )
        ]


class UsageDay(UsageSums):
    """The sums of a day's hours that are over. They stay when the day's rows are no longer kept."""

    id = models.BigAutoField(primary_key=True)
    day = models.DateField()

    class Meta:
        indexes = [models.Index(fields=["day"], name="usage_day_by_day")]
        constraints = [
            models.UniqueConstraint(
                fields=["organization_id", "day", "key_id", "user_id", "model", "provider_id"], name="usage_day_once"
            )
        ]


class RolledUp(models.Model):
    """How far the sums go: one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    hours_until = models.DateTimeField(help_text="Every hour before is added up.")
    seen_until = models.DateTimeField(help_text="Rows that were settled before have been seen.")

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="rolled_up_once")]

    def __str__(self) -> str:
        return f"{self.hours_until:%Y-%m-%d %H}"


class UsageByHour(UsageSums):
    """A view: the hours that are added up, and each row since as an hour of its own. Sum over it."""

    hour = models.DateTimeField(primary_key=True)

    class Meta:
        managed = False
        db_table = "billing_usage_by_hour"


class UsageByDay(UsageSums):
    """A view: the days as far as they are added up, and each row since as a day of its own. Sum over it."""

    day = models.DateField(primary_key=True)

    class Meta:
        managed = False
        db_table = "billing_usage_by_day"
