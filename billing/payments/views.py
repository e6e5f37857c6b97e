"""The addresses of payment by card: three that send an organization's owner to Stripe, and one that Stripe calls.

The webhook trusts a signature over the raw bytes and nothing else. Its body is bounded before it is read
(`aperture_site.small_bodies`); here the bound is asserted once more, for whoever serves Django in another way.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts.models import Membership, Organization, User
from billing.models import Plan
from billing.payments import checkout, inbox, stripe_api

logger = logging.getLogger("billing.payments")

WEBHOOK_PATH = "/webhooks/stripe"
WEBHOOK_BYTES_MAX = 256 * 1024

Page = Callable[[HttpRequest, Organization, User], str]


def say(status: int, sentence: str) -> HttpResponse:
    """Return an answer of one sentence."""
    return HttpResponse(f"{sentence}\n", status=status, content_type="text/plain; charset=utf-8")


def to_stripe(page: Page) -> Callable[..., HttpResponse]:
    """Send the owner of an organization to the address that PAGE returns, or say why not."""

    @require_POST
    @wraps(page)
    def view(request: HttpRequest) -> HttpResponse:
        if not isinstance(request.user, User):
            return redirect_to_login("/account", reverse("admin:login"))
        if not stripe_api.is_on():
            return say(503, str(stripe_api.CardPaymentsOff()))
        membership = _membership(request.user, request.POST.get("organization", ""))
        if membership is None:
            return say(404, "There is no such organization.")
        if membership.role != Membership.OWNER:
            return say(403, f"Only an owner of {membership.organization.name} can pay for it.")
        return _sent(page, request, membership.organization, request.user)

    return view


def _membership(user: User, organization: str) -> Membership | None:
    """Return the user's place in the organization that the form names by id, or in its own one."""
    mine = Membership.objects.select_related("organization").filter(user=user, organization__is_active=True)
    if not organization:
        return mine.filter(organization__personal_user=user).first()
    if not (organization.isascii() and organization.isdecimal() and len(organization) < 19):
        return None
    return mine.filter(organization_id=int(organization)).first()


def _sent(page: Page, request: HttpRequest, organization: Organization, user: User) -> HttpResponse:
    import stripe

    try:
        return HttpResponseRedirect(page(request, organization, user), status=303)
    except checkout.Refused as refusal:
        return say(400, str(refusal))
    except stripe.StripeError as error:
        logger.warning("Stripe could not begin a payment of organization %s: %s", organization.pk, error)
        return say(502, "Stripe did not take the request; nothing was charged. Try again in a minute.")


@to_stripe
def top_up(request: HttpRequest, organization: Organization, user: User) -> str:
    return checkout.top_up(organization, user, checkout.amount_cents(request.POST.get("amount", "")))


@to_stripe
def subscribe(request: HttpRequest, organization: Organization, user: User) -> str:
    plan = Plan.objects.filter(slug=request.POST.get("plan", "")[:32], public=True).first()
    if plan is None:
        raise checkout.Refused("There is no such plan.")
    return checkout.subscribe(organization, user, plan)


@to_stripe
def portal(request: HttpRequest, organization: Organization, user: User) -> str:  # noqa: ARG001
    return checkout.portal(organization)


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """Store an event that Stripe signed, and answer; a worker does the rest."""
    if not stripe_api.is_on():
        return say(503, "Card payment is off: set APERTURE_STRIPE_SECRET_KEY and APERTURE_STRIPE_WEBHOOK_SECRET.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 9 or int(length) > WEBHOOK_BYTES_MAX):
        return say(413, f"The body is larger than {WEBHOOK_BYTES_MAX} bytes.")
    body: bytes = request.read(WEBHOOK_BYTES_MAX + 1)
    if len(body) > WEBHOOK_BYTES_MAX:
        return say(413, f"The body is larger than {WEBHOOK_BYTES_MAX} bytes.")
    try:
        event = inbox.verified(body, request.headers.get("stripe-signature", ""))
        inbox.store(event)
    except inbox.Forged as error:
        return say(400, str(error))
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        return say(400, f"The event has no usable id, type and time: {error!r}.")
    return say(200, "Stored.")


Routes = list[tuple[str, Callable[..., Any]]]
ROUTES: Routes = [
    ("account/top-up", top_up),
    ("account/subscribe", subscribe),
    ("account/portal", portal),
    (WEBHOOK_PATH.lstrip("/"), webhook),
]
