"""Providers, credentials, models, aliases, targets and prices: what can be called, where, and what it costs.

Invariants: a credential's secret is encrypted and bound to its row and to its provider's host, so a changed base URL
drops it; a name (public id or alias) means one model; a price never changes once written, a new one begins later
(migration 0005, triggers).
Every change bumps `accounts.Version` when its transaction commits (migration 0002, triggers).
"""

from typing import ClassVar
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from accounts.models import Sourced
from catalog import addresses, flags, forwarding, rates

SLUG = RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", "Use letters, digits, dots, dashes and underscores.")
TIER_NAME = RegexValidator(r"^[a-z0-9_.-]{1,16}$", "Use small letters, digits, dots, dashes and underscores.")
NAME_LENGTH_MAX = 256
PRICE_PARTS = (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input",
    "output", "reasoning", "audio_output", "web_search",
)  # fmt: skip


class Provider(Sourced):
    """An upstream: an address, a way to show a credential, and the dialects it speaks."""

    BEARER, X_API_KEY, X_GOOG_API_KEY = "bearer", "x-api-key", "x-goog-api-key"
    AUTHORIZATIONS = [(BEARER, "Authorization: Bearer"), (X_API_KEY, "x-api-key"), (X_GOOG_API_KEY, "x-goog-api-key")]
    OVERRIDE, PASSTHROUGH, NONE = "override", "passthrough", "none"
    AUTH_MODES = [
        (OVERRIDE, "our credential"),
        (PASSTHROUGH, "ours; the caller's once keys are optional"),
        (NONE, "none"),
    ]

    AUTO, CLOSE, DRAIN = "", "close", "drain"
    DISCONNECTS = [
        (AUTO, "as the vendor charges"),
        (CLOSE, "hang up, and charge what was delivered"),
        (DRAIN, "read to the end, and charge what the vendor counts"),
    ]

    slug = models.CharField("id", max_length=64, unique=True, validators=[SLUG])
    name = models.CharField(max_length=150, blank=True)
    description = models.TextField(blank=True)
    base_url = models.CharField("base URL", max_length=500, help_text="With or without a trailing /v1.")
    authorization = models.CharField(max_length=32, choices=AUTHORIZATIONS, default=BEARER)
    auth_mode = models.CharField(max_length=16, choices=AUTH_MODES, default=OVERRIDE)
    timeout_s = models.FloatField(
        "timeout in seconds", null=True, blank=True, help_text="To the first byte; empty means the installation's."
    )
    flags = ArrayField(
        models.CharField(max_length=64, validators=[flags.validate]),
        default=flags.default,
        blank=True,
        help_text="The dialects this upstream speaks.",
    )
    cost_basis = models.CharField(max_length=32, blank=True, help_text="Price list; empty means by the flags.")
    model_cost_map = models.JSONField(default=list, blank=True)
    preference = models.IntegerField(default=0, help_text="The highest wins where several serve one model.")
    add_headers = models.JSONField(default=dict, blank=True)
    forward_headers = ArrayField(
        models.CharField(max_length=500, validators=[forwarding.validate]),
        default=forwarding.default,
        blank=True,
        help_text="Headers that a caller's request may carry on to this upstream where both speak one dialect. With a "
        "colon only the values that match: anthropic-beta: context-1m-* files-api-*",
    )
    mends = models.BooleanField(
        "mend its answers",
        default=False,
        help_text="Put in what this upstream's answers lack of its dialect, such as llama.cpp's Responses streams.",
    )
    on_disconnect = models.CharField(
        "when a caller hangs up",
        max_length=8,
        choices=DISCONNECTS,
        default=AUTO,
        blank=True,
        help_text="Some vendors charge in full whether or not somebody listens.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.slug

    @property
    def host(self) -> str:
        """Scheme, host and port of the base URL: what a credential is bound to."""
        return addresses.host_of(self.base_url)

    def clean(self) -> None:
        if not addresses.is_readable(self.base_url):
            raise ValidationError({"base_url": "Write an address such as https://api.openai.com."})
        parts = urlsplit(self.base_url)
        if parts.username or parts.query or parts.fragment:
            raise ValidationError({"base_url": "Leave out user names, queries and fragments; a key belongs below."})


class Credential(Sourced):
    """A provider's secret (`catalog.credentials` encrypts and opens it)."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="credentials")
    name = models.CharField(max_length=64, default="default")
    encrypted = models.BinaryField(editable=False)
    host = models.CharField(max_length=300, editable=False)
    fingerprint = models.CharField(max_length=16, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "name"], name="credential_name_once")]

    def __str__(self) -> str:
        return f"{self.provider} {self.name} ({self.fingerprint})"


class Model(Sourced):
    """What callers ask for by name."""

    CHAT, EMBEDDING = "chat", "embedding"
    KINDS = [(CHAT, "chat"), (EMBEDDING, "embedding"), ("image", "image"), ("audio", "audio"), ("other", "other")]

    public_id = models.CharField(max_length=NAME_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=150, blank=True)
    owner = models.CharField(max_length=100, blank=True)
    description = models.TextField(blank=True)
    best_for = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=16, choices=KINDS, default=CHAT)
    supports_tools = models.BooleanField(default=True)
    supports_vision = models.BooleanField(default=False)
    supports_audio = models.BooleanField(default=False)
    supports_json_schema = models.BooleanField(default=False)
    supports_reasoning = models.BooleanField(default=False)
    context_tokens = models.PositiveIntegerField(null=True, blank=True)
    output_tokens_max = models.PositiveIntegerField(null=True, blank=True)
    output_tokens_typical = models.PositiveIntegerField(
        default=4096, help_text="What is held for a request that sets no limit of its own."
    )
    timeout_s = models.FloatField(
        "timeout in seconds", null=True, blank=True, help_text="To the first byte; wins over the provider's."
    )
    listed = models.BooleanField(
        null=True, blank=True, help_text="Unknown means: listed if its targets are one model at several providers."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.public_id

    def clean(self) -> None:
        if Alias.objects.filter(name=self.public_id).exclude(model_id=self.pk).exists():
            raise ValidationError({"public_id": f"{self.public_id} is an alias of another model already."})


class Alias(models.Model):
    """Another name of a model."""

    name = models.CharField(max_length=NAME_LENGTH_MAX, unique=True)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")

    class Meta:
        verbose_name_plural = "aliases"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if Model.objects.filter(public_id=self.name).exists():
            raise ValidationError({"name": f"{self.name} is the public id of a model already."})


class Target(Sourced):
    """A model at a provider, under the id that this provider knows."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="targets")
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="targets")
    upstream_id = models.CharField(max_length=NAME_LENGTH_MAX)
    weight = models.PositiveIntegerField(default=1)
    preference = models.IntegerField(null=True, blank=True, help_text="Empty means the provider's.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "provider", "upstream_id"], name="target_once"),
        ]

    def __str__(self) -> str:
        return f"{self.model} → {self.provider}/{self.upstream_id}"


class Price(models.Model):
    """What a target costs the house from a moment on, in nano-dollars per million tokens (per thousand searches).

    A part without a rate costs what its parent part does: cache reads and writes, audio and images as input, an
    hour's cache write as one of five minutes, reasoning and audio as output; searches cost nothing.

    A row is for requests above a context size, for one service tier, or (neither) the base price. A new base price
    retires all that began before it (`billing.pricing`). Rows are never changed, and never deleted but with their
    target: usage names the row that priced it (migration 0005, triggers).
    """

    SEED, OPERATOR = "seed", "operator"
    PARTS: ClassVar[tuple[str, ...]] = PRICE_PARTS
    TIER_COLUMNS: ClassVar[tuple[str, str]] = ("service_tier", "above_context_tokens")

    target = models.ForeignKey(Target, on_delete=models.CASCADE, related_name="prices")
    effective_at = models.DateTimeField(default=timezone.now)
    above_context_tokens = models.PositiveIntegerField(
        null=True, blank=True, help_text="For requests with more input than this, cached or not; empty means any."
    )
    service_tier = models.CharField(
        max_length=16,
        blank=True,
        validators=[TIER_NAME],
        help_text="As the answer names it, such as flex, priority or batch; empty means standard.",
    )
    input = models.BigIntegerField()
    cache_read = models.BigIntegerField(null=True, blank=True)
    cache_write_5m = models.BigIntegerField(null=True, blank=True)
    cache_write_1h = models.BigIntegerField(null=True, blank=True)
    audio_input = models.BigIntegerField(null=True, blank=True)
    image_input = models.BigIntegerField(null=True, blank=True)
    output = models.BigIntegerField()
    reasoning = models.BigIntegerField(null=True, blank=True)
    audio_output = models.BigIntegerField(null=True, blank=True)
    web_search = models.BigIntegerField(null=True, blank=True)
    source = models.CharField(max_length=16, default=OPERATOR, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(input__gte=0, output__gte=0), name="price_not_negative"),
            models.CheckConstraint(
                condition=models.Q(
                    *(models.Q(**{f"{part}__range": (0, rates.RATE_NANOS_MAX)}) for part in PRICE_PARTS)
                ),
                name="price_within_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"${rates.to_dollars(self.input)} in, ${rates.to_dollars(self.output)} out"

    @property
    def is_base(self) -> bool:
        """Tell whether this is a price for any context size at the standard service tier."""
        return self.above_context_tokens is None and not self.service_tier

    @property
    def tier(self) -> str:
        """What the row is for, in words; empty for a base price."""
        above = self.above_context_tokens
        return ", ".join(filter(None, [self.service_tier, "" if above is None else f"above {above:,} tokens"]))


class Once(models.Model):
    """What start-up made once. The row outlives what it names, so that what an operator deleted stays deleted."""

    name = models.CharField(max_length=150, primary_key=True)
    made_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "once"

    def __str__(self) -> str:
        return self.name
