"""Providers, credentials, models, aliases, targets and prices: what can be called, where, and what it costs.

Beside them stand the tables of what is found out about them: standings, their changes, checks, and proposals; and the
price data that was fetched.

Invariants: a credential's secret is encrypted and bound to its row and to its provider's host, so a changed base URL
drops it; a name (public id or alias) means one model; a price never changes once written, a new one begins later
(migration 0005, triggers).
Every change bumps `accounts.Version` when its transaction commits (migration 0002, triggers); of a standing only one
that lets its subject into the routing plan or takes it out (migration 0007).
"""

from typing import ClassVar
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone

from accounts.models import Sourced
from catalog import addresses, flags, forwarding, health, rates

SLUG = RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", "Use letters, digits, dots, dashes and underscores.")
TIER_NAME = RegexValidator(r"^[a-z0-9_.-]{1,16}$", "Use small letters, digits, dots, dashes and underscores.")
NAME_LENGTH_MAX = 256
# Ten cents.
CHECK_NANOS_PER_DAY = 100_000_000
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

    LISTING, REQUEST, OFF = "listing", "request", "off"
    CHECKS = [(LISTING, "list its models"), (REQUEST, "one tiny request"), (OFF, "none")]
    QUEUE, PUBLISH = "queue", "publish"
    DISCOVERIES = [(OFF, "look for none"), (QUEUE, "propose them to the operator"), (PUBLISH, "publish them")]

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
    check_by = models.CharField(
        "health check",
        max_length=8,
        choices=CHECKS,
        default=LISTING,
        help_text="A tiny request asks one model after the other and costs a fraction of a cent; the budget bounds it.",
    )
    check_interval_s = models.PositiveIntegerField(
        "check interval in seconds", default=60, validators=[MinValueValidator(10), MaxValueValidator(86_400)]
    )
    check_requests_per_day = models.PositiveIntegerField(
        "checks' requests a day", null=True, blank=True, default=5_000, help_text="Empty means any number. UTC days."
    )
    check_nanos_per_day = models.BigIntegerField(
        "checks' dollars a day", default=CHECK_NANOS_PER_DAY, validators=[MinValueValidator(0)]
    )
    discovery = models.CharField(
        "new models",
        max_length=8,
        choices=DISCOVERIES,
        default=QUEUE,
        help_text="What to do, once a day, with models that this provider lists, whose price is known, and that are "
        "not served yet.",
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


class Standing(models.Model):
    """How a provider, one of its credentials or one of its targets does; `catalog.health` decides, checks feed it.

    `basis` is what the state was found with (an address, a fingerprint, an upstream id): it says nothing of another.
    Nobody relies on a state that keeps its subject out of the plan after `trusted_until_at`, for nobody renewed it.
    """

    STATES = [(state, state) for state in health.STATES]

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="standings")
    # The database itself deletes credentials (migration 0002), so what hangs on them goes by its own rule (0007).
    credential = models.OneToOneField(
        Credential, null=True, blank=True, on_delete=models.CASCADE, related_name="standing", db_constraint=False
    )
    target = models.OneToOneField(Target, null=True, blank=True, on_delete=models.CASCADE, related_name="standing")
    basis = models.CharField(max_length=500, blank=True)
    state = models.CharField(max_length=8, choices=STATES, default=health.UNKNOWN)
    reason = models.CharField(max_length=500, blank=True)
    since_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    checked_at = models.DateTimeField(null=True)
    latency_ms = models.PositiveIntegerField(null=True)
    next_at = models.DateTimeField(null=True, help_text="When a provider is checked again.")
    trusted_until_at = models.DateTimeField(null=True)
    # Of a target: whether a listing named it once; what never was in one cannot vanish from it.
    listed = models.BooleanField(default=False)
    # Of a provider: when its listing was last compared with what is served from it.
    discovered_at = models.DateTimeField(null=True)
    # What the operator was told last.
    told = models.CharField(max_length=8, blank=True)
    told_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider"], condition=models.Q(credential=None, target=None), name="standing_provider_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject}: {self.state}"

    @property
    def subject(self) -> str:
        """What it is the standing of, in words."""
        if self.credential is not None:
            return f"{self.provider}, credential {self.credential.name}"
        return f"{self.provider}/{self.target.upstream_id}" if self.target is not None else str(self.provider)


class StandingChange(models.Model):
    """One change of a state, with its reason."""

    standing = models.ForeignKey(Standing, on_delete=models.CASCADE, related_name="changes", db_constraint=False)
    at = models.DateTimeField()
    before = models.CharField(max_length=8)
    after = models.CharField(max_length=8)
    reason = models.CharField(max_length=500, blank=True)
    source = models.CharField(max_length=8)

    class Meta:
        indexes = [models.Index(fields=["standing", "-at"], name="standing_change_latest")]

    def __str__(self) -> str:
        return f"{self.before} → {self.after}"


class Check(models.Model):
    """One look at an upstream: what it was, how long it took and what it cost the house, in nano-dollars."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="checks")
    credential = models.CharField(max_length=64, blank=True)
    model = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    at = models.DateTimeField()
    latency_ms = models.PositiveIntegerField()
    outcome = models.CharField(max_length=8)
    reason = models.CharField(max_length=500, blank=True)
    requests = models.PositiveIntegerField(default=1)
    cost_nanos = models.BigIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["provider", "-at"], name="check_latest"),
            models.Index(fields=["at"], name="check_age"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.outcome}"


class Proposal(models.Model):
    """What the operator decides: of a listing, a model to serve or a target to switch off; of the price data, a price
    that moved too far to be believed, with its whole `tariff`. Decided once, and remembered.
    """

    NEW, VANISHED, PRICE = "new", "vanished", "price"
    KINDS = [(NEW, "new model"), (VANISHED, "vanished model"), (PRICE, "price that moved far")]
    OPEN, ACCEPTED, IGNORED, PUBLISHED = "open", "accepted", "ignored", "published"
    STATES = [
        (OPEN, "open"), (ACCEPTED, "accepted"), (IGNORED, "ignored"), (PUBLISHED, "published by itself"),
    ]  # fmt: skip

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="proposals")
    kind = models.CharField(max_length=8, choices=KINDS)
    upstream_id = models.CharField(max_length=NAME_LENGTH_MAX)
    public_id = models.CharField(max_length=NAME_LENGTH_MAX)
    model_kind = models.CharField(max_length=16, choices=Model.KINDS, default=Model.CHAT)
    name = models.CharField(max_length=150, blank=True)
    context_tokens = models.PositiveIntegerField(null=True)
    input = models.BigIntegerField("input", null=True)
    output = models.BigIntegerField("output", null=True)
    tariff = models.JSONField(null=True)
    reason = models.CharField(max_length=500, blank=True)
    state = models.CharField(max_length=9, choices=STATES, default=OPEN)
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True)
    # When the operator was told by mail; of prices only.
    told_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "kind", "upstream_id"], name="proposal_once"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.upstream_id}"


class PriceData(models.Model):
    """The price data that was fetched last, gzipped: one row, so that every machine reads the same prices."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    content = models.BinaryField()
    url = models.CharField(max_length=500)
    etag = models.CharField(max_length=256, blank=True)
    # The installed package's, when this was last known to be the newest.
    package_version = models.CharField(max_length=64)
    fetched_at = models.DateTimeField()
    confirmed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "price data"
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="price_data_once")]

    def __str__(self) -> str:
        return f"price data of {self.fetched_at:%Y-%m-%d %H:%M} UTC"
