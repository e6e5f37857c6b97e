"""Plans: what an organization pays over the upstream's cost, and which features that opens.

Operators edit them. A change bumps `accounts.Version`, so every process knows it in under a second.
"""

from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone


class Plan(models.Model):
    """A row of the price page."""

    FREE, PRO, ENTERPRISE = "free", "pro", "enterprise"

    slug = models.SlugField(max_length=32, unique=True)
    name = models.CharField(max_length=64, unique=True)
    description = models.TextField(blank=True)
    position = models.PositiveSmallIntegerField(default=0, help_text="Order on the price page.")
    public = models.BooleanField(default=True, help_text="Shown on the price page.")
    markup_ppm = models.PositiveIntegerField(
        "markup (parts per million)",
        default=1_200_000,
        help_text="What is charged for each million of upstream cost: 1200000 is cost x 1.2.",
    )
    price_nanos = models.BigIntegerField("monthly price in nano-dollars", default=0, validators=[MinValueValidator(0)])
    monthly_credit_nanos = models.BigIntegerField(
        "included monthly credit in nano-dollars",
        default=0,
        validators=[MinValueValidator(0)],
        help_text="Posted each month; it adds up and never expires.",
    )
    cache_lifetime_s = models.PositiveIntegerField("cache lifetime in seconds", default=60)
    fallback = models.BooleanField("automatic fallback", default=False)
    native_anthropic = models.BooleanField("native Anthropic endpoint", default=False)
    bring_your_own_key = models.BooleanField(default=False)
    stripe_price_id = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["position", "name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(price_nanos__gte=0, monthly_credit_nanos__gte=0, markup_ppm__gte=0),
                name="plan_amounts_not_negative",
            )
        ]

    def __str__(self) -> str:
        return self.name
