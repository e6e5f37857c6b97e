"""A page that asks, a page that shows what will happen, and then the deed, once.

Each deed needs a reason. The first page carries a token that becomes the transfer's reference, so a confirmation that
is sent twice moves money once. Who did it and why is kept on the transfer and in Django's log of changes.
"""

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from django import forms
from django.conf import settings
from django.contrib import messages
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from billing import money
from billing.admin.amounts import dollars_field
from billing.models import House, Plan
from billing.money import NANOS_PER_DOLLAR

TEMPLATE = "admin/billing/two_steps.html"


class Refused(Exception):
    """The deed cannot be done; the message says why, to the operator."""


class ReasonForm(forms.Form):
    """Why something is done, and the token of the page that asked."""

    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Kept with what is posted, for whoever reads the books.",
    )
    token = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


class AmountForm(ReasonForm):
    """An amount of dollars, above zero, that is within what one action may move."""

    amount = dollars_field()
    field_order: tuple[str, ...] = ("amount", "reason", "token")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["amount"].help_text = f"In dollars, such as 5.00; at most {limit_text()} at a time."

    def clean_amount(self) -> int:
        nanos: int = self.cleaned_data["amount"]
        if nanos == 0:
            raise forms.ValidationError("Write an amount above zero.")
        if over_limit(nanos):
            raise forms.ValidationError(
                f"At most {limit_text()} can be moved at a time; APERTURE_ADJUSTMENT_MAX_DOLLARS sets that limit."
            )
        return nanos


class CreditForm(AmountForm):
    """An amount, and where it comes from."""

    source = forms.TypedChoiceField(
        label="Where it comes from",
        coerce=int,
        choices=[
            (House.PROMOTIONS.value, "A gift: at the expense of the house's promotions"),
            (House.CLEARING.value, "Paid outside of Aperture, by bank transfer for example: into payment clearing"),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    field_order = ("amount", "source", "reason", "token")


class PlanForm(ReasonForm):
    """A plan, and why."""

    plan = forms.ModelChoiceField(Plan.objects.order_by("position", "pk"), widget=UnfoldAdminSelectWidget)
    field_order: tuple[str, ...] = ("plan", "reason", "token")


def over_limit(nanos: int) -> bool:
    """Say whether this is more than one action may move."""
    return bool(nanos > settings.ADJUSTMENT_MAX_DOLLARS * NANOS_PER_DOLLAR)


def limit_text() -> str:
    """Return the limit of one action, such as `$1,000`."""
    return f"${settings.ADJUSTMENT_MAX_DOLLARS:,}"


class Asked(msgspec.Struct, frozen=True):
    """What an operator asked for."""

    actor_id: int
    reason: str
    reference: str
    amount: money.Money = money.ZERO
    plan: Any = None
    source: House | None = None


class Deed(msgspec.Struct, frozen=True):
    """What can be done to an object.

    `preview` returns the lines of the second page, labels and values; `perform` does it and returns one past sentence.
    Both raise Refused.
    """

    title: str
    explanation: str
    form: type[ReasonForm]
    preview: Callable[[Any, Asked], list[tuple[str, Any]]]
    perform: Callable[[Any, Asked], str]
    dangerous: bool = False


def run(request: HttpRequest, admin: Any, item: Any, deed: Deed, back: str) -> HttpResponse:
    """Answer a request of one of the pages of DEED on ITEM; BACK is the address to go to afterwards."""
    form = deed.form(request.POST or None)
    context = {
        **admin.admin_site.each_context(request),
        "title": deed.title,
        "deed": deed,
        "form": form,
        "opts": admin.model._meta,
        "original": item,
        "back": back,
    }
    if request.method != "POST" or not form.is_valid():
        return TemplateResponse(request, TEMPLATE, context)
    asked = _asked(request, form)
    try:
        if "confirmed" not in request.POST:
            context["lines"] = [*deed.preview(item, asked), ("Reason", asked.reason)]
            return TemplateResponse(request, TEMPLATE, context)
        with transaction.atomic():
            sentence = deed.perform(item, asked)
            admin.log_change(request, item, f"{sentence} Reason: {asked.reason}")
    except Refused as error:
        messages.error(request, str(error))
    except DatabaseError as error:
        messages.error(request, f"The database refused it: {error}")
    else:
        messages.success(request, sentence)
    return HttpResponseRedirect(back)


def _asked(request: HttpRequest, form: ReasonForm) -> Asked:
    data = form.cleaned_data
    return Asked(
        actor_id=int(request.user.pk or 0),
        reason=data["reason"],
        reference=f"admin:{data['token']}",
        amount=money.Money(data.get("amount", 0)),
        plan=data.get("plan"),
        source=House(data["source"]) if "source" in data else None,
    )
