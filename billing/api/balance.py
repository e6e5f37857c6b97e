"""GET balance, GET plans, PATCH settings."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import ledger, money
from billing.api import amounts
from billing.api.idempotency import once
from billing.api.queries import Query, Strict, asked, iso, sent
from billing.api.view import OrganizationView, View
from billing.models import Plan, Wallet


def shape(wallet: Wallet) -> dict[str, Any]:
    """Return a wallet as its organization sees it. What is available includes the overdraft and not what is held."""
    return {
        "organization": {"id": wallet.organization_id, "name": wallet.organization.name},
        "mode": wallet.mode,
        "plan": {"slug": wallet.plan.slug, "name": wallet.plan.name},
        "frozen": wallet.frozen_at is not None,
        "frozen_at": iso(wallet.frozen_at) if wallet.frozen_at else None,
        "currency": "USD",
        **amounts.both("posted", wallet.posted_nanos),
        **amounts.both("held", wallet.held_nanos),
        **amounts.both("overdraft", wallet.overdraft_nanos),
        **amounts.both("available", wallet.available_nanos),
        "available_tokens": amounts.tokens(wallet.available_nanos),
        "low_balance_nanos": wallet.low_balance_nanos,
    }


def wallet_of(organization_id: int) -> Wallet:
    """Return an organization's wallet with what `shape` shows of it."""
    ledger.wallet_of(organization_id)
    return Wallet.objects.select_related("organization", "plan").get(pk=organization_id)


class Balance(OrganizationView):
    """What an organization has."""

    def get(self, request: Request) -> Response:
        """Return posted, held and available, each by itself."""
        asked(Query, request)
        return Response(shape(wallet_of(self.organization.pk)))


class SettingsBody(Strict):
    """What an owner may set."""

    low_balance_nanos = serializers.IntegerField(min_value=0, max_value=money.NANOS_MAX, allow_null=True)


class Settings(OrganizationView):
    """What an organization's owner decides about its wallet."""

    def patch(self, request: Request) -> Any:
        """Set the balance below which a mail is sent; null is never."""
        body = sent(SettingsBody, request)

        def change() -> Response:
            organization_id = self.organization.pk
            ledger.wallet_of(organization_id)
            Wallet.objects.filter(pk=organization_id).update(low_balance_nanos=body["low_balance_nanos"])
            return Response(shape(wallet_of(organization_id)))

        return once(self, request, change)


class Plans(View):
    """The price page."""

    def get(self, request: Request) -> Response:
        """Return the public plans in their order; anybody may ask."""
        asked(Strict, request)
        return Response({"data": [plan_shape(plan) for plan in Plan.objects.filter(public=True)]})


def plan_shape(plan: Plan) -> dict[str, Any]:
    """Return a plan as the price page shows it."""
    return {
        "slug": plan.slug,
        "name": plan.name,
        "description": plan.description,
        "markup": money.factor(plan.markup_ppm),
        **amounts.both("price", plan.price_nanos),
        **amounts.both("monthly_credit", plan.monthly_credit_nanos),
        "monthly_credit_tokens": amounts.tokens(plan.monthly_credit_nanos),
        "cache_lifetime_s": plan.cache_lifetime_s,
        "fallback": plan.fallback,
        "native_anthropic": plan.native_anthropic,
        "bring_your_own_key": plan.bring_your_own_key,
    }
