"""Limits: how many requests and tokens in what time, and how many requests at once.

Kept by the database: a limit names exactly the one thing that its scope speaks of, once for each kind, and its amount
is above zero (to close a key, a model or a user, revoke or disable it: nothing would tell its caller when to come
back). A change bumps `accounts.Version`, so every process knows it in under a second. Counters are no rows: they are
in Redis, and a change of the amount keeps them.
"""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import APIKey, Organization, User
from billing.models.plan import Plan

# Far above any use, and far below where a double, which is what Redis scripts count in, loses whole numbers.
AMOUNT_MAX = 10**12


class Limit(models.Model):
    """One limit. A plan's counts for each organization, a model's for the installation, the sandbox's for each user."""

    KEY, USER, ORGANIZATION, MODEL, PLAN, SANDBOX = "key", "user", "organization", "model", "plan", "sandbox"
    SCOPES = [
        (KEY, "one key"),
        (USER, "one user"),
        (ORGANIZATION, "one organization"),
        (MODEL, "models, all callers together"),
        (PLAN, "each organization of a plan"),
        (SANDBOX, "free models for each user without credit"),
    ]
    REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = "requests_per_minute", "tokens_per_minute"
    REQUESTS_PER_DAY, TOKENS_PER_DAY = "requests_per_day", "tokens_per_day"
    CONCURRENCY = "concurrency"
    KINDS = [
        (REQUESTS_PER_MINUTE, "requests a minute"),
        (TOKENS_PER_MINUTE, "tokens a minute"),
        (REQUESTS_PER_DAY, "requests a day"),
        (TOKENS_PER_DAY, "tokens a day"),
        (CONCURRENCY, "requests at once"),
    ]

    scope = models.CharField(max_length=16, choices=SCOPES)
    key = models.ForeignKey(APIKey, on_delete=models.CASCADE, null=True, blank=True, related_name="limits")
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, blank=True, related_name="limits")
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, blank=True, related_name="limits"
    )
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, null=True, blank=True, related_name="limits")
    model_glob = models.CharField(
        "models",
        max_length=256,
        blank=True,
        help_text="A glob of public ids: * is one segment, ** is any number. All that it matches count together.",
    )
    kind = models.CharField(max_length=32, choices=KINDS)
    amount = models.BigIntegerField(validators=[MinValueValidator(1), MaxValueValidator(AMOUNT_MAX)])
    enabled = models.BooleanField(default=True)
    source = models.CharField(max_length=16, default="admin", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=1, amount__lte=AMOUNT_MAX), name="limit_amount_possible"),
            models.CheckConstraint(
                condition=Q(
                    kind__in=[
                        "requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day", "concurrency",
                    ]
                ),
                name="limit_kind_known",
            ),
            models.CheckConstraint(
                condition=Q(scope="key", key__isnull=False, user=None, organization=None, plan=None, model_glob="")
                | Q(scope="user", key=None, user__isnull=False, organization=None, plan=None, model_glob="")
                | Q(scope="organization", key=None, user=None, organization__isnull=False, plan=None, model_glob="")
                | Q(scope="plan", key=None, user=None, organization=None, plan__isnull=False, model_glob="")
                | Q(Q(scope="model", key=None, user=None, organization=None, plan=None), ~Q(model_glob=""))
                | Q(scope="sandbox", key=None, user=None, organization=None, plan=None, model_glob=""),
                name="limit_names_what_its_scope_says",
            ),
            models.UniqueConstraint(fields=["key", "kind"], name="limit_once_for_key"),
            models.UniqueConstraint(fields=["user", "kind"], name="limit_once_for_user"),
            models.UniqueConstraint(fields=["organization", "kind"], name="limit_once_for_organization"),
            models.UniqueConstraint(fields=["plan", "kind"], name="limit_once_for_plan"),
            models.UniqueConstraint(
                fields=["model_glob", "kind"], condition=Q(scope="model"), name="limit_once_for_model"
            ),
            models.UniqueConstraint(fields=["kind"], condition=Q(scope="sandbox"), name="limit_once_for_sandbox"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.amount:,} {self.get_kind_display()}: {self.target}"

    def clean(self) -> None:
        """Say at the field what the database would refuse: a limit that names nothing, or more than its scope."""
        columns = [column for column in (self.KEY, self.USER, self.ORGANIZATION, self.PLAN) if column != self.scope]
        for column in [*columns, *(["model_glob"] if self.scope != self.MODEL else [])]:
            if getattr(self, f"{column}_id", None) or (column == "model_glob" and self.model_glob):
                raise ValidationError({column: f"Leave this empty: the limit is for {self.get_scope_display()}."})
        named = "model_glob" if self.scope == self.MODEL else self.scope
        if self.scope != self.SANDBOX and not (
            self.model_glob if named == "model_glob" else getattr(self, named, None)
        ):
            raise ValidationError({named: "Say which: the limit's scope speaks of it."})

    @property
    def target(self) -> str:
        """What it limits, for people."""
        named = self.key or self.user or self.organization or self.plan or self.model_glob
        return str(named or self.get_scope_display())
