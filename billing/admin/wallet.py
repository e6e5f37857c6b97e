"""The admin's pages of wallets: balances, and what an operator may do to one.

Posted, held and available are shown apart. No form writes a balance: credit, debit and refund are transfers, each on
two pages with a reason (`two_steps`), and each needs the right to change wallets. A wallet is never deleted.
"""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from billing import ledger, money
from billing.admin import two_steps
from billing.admin.amounts import cell, dollars_field
from billing.admin.ledger import account_names
from billing.admin.two_steps import AmountForm, Asked, CreditForm, Deed, PlanForm, ReasonForm, Refused
from billing.models import Hold, House, Kind, Transfer, Wallet

LATEST = 15

Lines = list[tuple[str, Any]]


def _balances(wallet: Wallet, after_nanos: int) -> Lines:
    free = wallet.posted_nanos - wallet.held_nanos
    return [
        ("Organization", str(wallet)),
        ("Posted now", cell(wallet.posted_nanos)),
        ("Held by running requests", cell(wallet.held_nanos)),
        ("Not held", cell(free)),
        ("Posted afterwards", cell(after_nanos)),
    ]


def preview_credit(wallet: Wallet, asked: Asked) -> Lines:
    """Show the balance afterwards, and that an unmetered wallet becomes prepaid."""
    source = asked.source or House.PROMOTIONS
    lines = [
        ("Credit", cell(asked.amount.nanos)),
        ("From", f"house: {source.label}"),
        *_balances(wallet, wallet.posted_nanos + asked.amount.nanos),
    ]
    if wallet.mode == Wallet.UNMETERED:
        lines.append(("Mode afterwards", "prepaid: from then on, requests are refused when the credit is used up"))
    return lines


def preview_taking(wallet: Wallet, asked: Asked) -> Lines:
    """Show the balance afterwards; raise Refused if what is not held does not cover it."""
    free = wallet.posted_nanos - wallet.held_nanos
    if asked.amount.nanos > free:
        raise Refused(f"Only ${money.shown(free)} is not held, so ${money.shown(asked.amount.nanos)} cannot be taken.")
    return [("Take", cell(asked.amount.nanos)), *_balances(wallet, wallet.posted_nanos - asked.amount.nanos)]


def credit(wallet: Wallet, asked: Asked) -> str:
    """Give credit from the house account that was chosen."""
    source = asked.source or House.PROMOTIONS
    return _posted(
        ledger.credit(wallet.pk, asked.amount, Kind.CREDIT, source, **_about(asked)), "Credited", asked.amount
    )


def taking(kind: Kind, target: House, word: str) -> Callable[[Wallet, Asked], str]:
    """Return the deed that takes available credit into TARGET."""

    def take(wallet: Wallet, asked: Asked) -> str:
        try:
            transfer = ledger.debit_available(wallet.pk, asked.amount, kind, target, **_about(asked))
        except ledger.NoCredit as error:
            raise Refused(str(error)) from None
        return _posted(transfer, word, asked.amount)

    return take


def _about(asked: Asked) -> dict[str, Any]:
    return {"reference": asked.reference, "reason": asked.reason, "actor_id": asked.actor_id}


def _posted(transfer: Transfer | None, word: str, amount: money.Money) -> str:
    if transfer is None:
        raise Refused("This page was sent before, and was posted then. Nothing was posted now.")
    return f"{word} ${money.shown(amount.nanos)} (transfer {transfer.pk})."


def preview_write_off(wallet: Wallet, asked: Asked) -> Lines:
    """Show what is owed; raise Refused where nothing is, or more than one action may move."""
    owed = -wallet.posted_nanos
    if owed <= 0:
        raise Refused(f"The wallet of {wallet} is not below zero.")
    if two_steps.over_limit(owed):
        raise Refused(
            f"${money.shown(owed)} is over {two_steps.limit_text()}, the most that one action may move "
            "(APERTURE_ADJUSTMENT_MAX_DOLLARS)."
        )
    return [("Write off", cell(owed)), *_balances(wallet, 0)]


def write_off(wallet: Wallet, asked: Asked) -> str:
    """Bring a wallet that is below zero to zero, at the expense of bad debt."""
    locked = ledger.lock([wallet.pk])[wallet.pk]
    preview_write_off(locked, asked)
    owed = money.Money(-locked.posted_nanos)
    transfer = ledger.credit(wallet.pk, owed, Kind.WRITE_OFF, House.BAD_DEBT, **_about(asked))
    return _posted(transfer, "Wrote off", owed)


def preview_nothing_moves(wallet: Wallet, asked: Asked) -> Lines:
    """Show whose wallet it is."""
    return [("Organization", str(wallet)), ("Balance", "stays as it is")]


def freeze(wallet: Wallet, asked: Asked) -> str:
    """Admit nothing from now on."""
    if not Wallet.objects.filter(pk=wallet.pk, frozen_at=None).update(frozen_at=timezone.now()):
        raise Refused(f"The wallet of {wallet} is frozen already.")
    return f"Froze the wallet of {wallet}."


def unfreeze(wallet: Wallet, asked: Asked) -> str:
    """Admit requests again."""
    if not Wallet.objects.filter(pk=wallet.pk).exclude(frozen_at=None).update(frozen_at=None):
        raise Refused(f"The wallet of {wallet} is not frozen.")
    return f"Unfroze the wallet of {wallet}."


def preview_plan(wallet: Wallet, asked: Asked) -> Lines:
    """Show both plans."""
    return [
        *preview_nothing_moves(wallet, asked),
        ("Plan now", str(wallet.plan)),
        ("Plan afterwards", str(asked.plan)),
        ("Credit each month", cell(asked.plan.monthly_credit_nanos)),
    ]


def set_plan(wallet: Wallet, asked: Asked) -> str:
    """Put the organization on a plan."""
    ledger.set_plan(wallet.pk, asked.plan)
    return f"Put {wallet} on the plan {asked.plan}."


DEEDS = {
    "credit": Deed(
        "Credit",
        "Adds to the balance. It never expires.",
        CreditForm,
        preview_credit,
        credit,
    ),
    "debit": Deed(
        "Debit",
        "Takes from the balance into the house's adjustments: at most what no running request holds.",
        AmountForm,
        preview_taking,
        taking(Kind.DEBIT, House.ADJUSTMENTS, "Debited"),
        dangerous=True,
    ),
    "refund": Deed(
        "Refund",
        "Takes unused credit from the balance because the money was given back outside of Aperture, by bank transfer "
        "for example. It moves no money by itself; payments by card are refunded on the page Payments.",
        AmountForm,
        preview_taking,
        taking(Kind.REFUND, House.REFUNDS, "Refunded"),
        dangerous=True,
    ),
    "write_off": Deed(
        "Write off",
        "Brings a balance below zero to zero, at the expense of the house's bad debt.",
        ReasonForm,
        preview_write_off,
        write_off,
        dangerous=True,
    ),
    "freeze": Deed(
        "Freeze",
        "New requests of this organization are refused until it is unfrozen. Running ones finish and are charged.",
        ReasonForm,
        preview_nothing_moves,
        freeze,
        dangerous=True,
    ),
    "unfreeze": Deed("Unfreeze", "New requests are admitted again.", ReasonForm, preview_nothing_moves, unfreeze),
    "plan": Deed(
        "Set plan",
        "The new plan's markup and features apply from the next request on. What is posted stays posted.",
        PlanForm,
        preview_plan,
        set_plan,
    ),
}


class WalletForm(forms.ModelForm):  # type: ignore[type-arg]
    """A wallet's terms; its balance moves by transfers only."""

    overdraft_nanos = dollars_field(
        label="Overdraft", help_text="How far below zero requests may take it on purpose. Usually 0."
    )
    low_balance_nanos = dollars_field(label="Mail below", required=False, help_text="A mail is sent below it.")

    class Meta:
        model = Wallet
        fields = ("mode", "overdraft_nanos", "low_balance_nanos")


class NewWalletForm(forms.ModelForm):  # type: ignore[type-arg]
    """Whose wallet to open; its terms are those of the installation."""

    class Meta:
        model = Wallet
        fields = ("organization",)


@admin.register(Wallet)
class WalletAdmin(ModelAdmin):
    form = WalletForm
    list_display = ("organization", "mode", "plan", "posted", "held", "available", "state")
    list_filter = ("mode", "plan", "funded", ("frozen_at", admin.EmptyFieldListFilter))
    list_select_related = ("organization", "plan")
    list_fullwidth = True
    search_fields = ("organization__name", "organization__members__email", "=organization__id")
    search_help_text = "An organization's name or id, or a member's e-mail"
    autocomplete_fields = ("organization",)
    ordering = ("organization__name", "pk")
    actions_detail = (
        "credit",
        "debit",
        "refund",
        {"title": "More", "items": ["set_plan", "freeze", "unfreeze", "write_off"]},
    )
    change_form_outer_after_template = "admin/billing/wallet_records.html"
    fieldsets = (
        (None, {"fields": ("organization", "plan", ("state", "frozen_at"))}),
        ("Balance", {"fields": (("posted", "held", "available"),)}),
        ("Terms", {"fields": ("mode", "overdraft_nanos", "low_balance_nanos")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "fields": ("organization",),
                "description": "An organization's wallet opens by itself with its first request; open one here to "
                "credit it before.",
            },
        ),
    )

    def get_form(self, request: HttpRequest, obj: Wallet | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs | ({} if obj else {"form": NewWalletForm}))

    def get_fieldsets(self, request: HttpRequest, obj: Wallet | None = None) -> Any:
        return self.fieldsets if obj else self.add_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Wallet | None = None) -> tuple[str, ...]:
        always = ("plan", "state", "frozen_at", "posted", "held", "available")
        return (*always, "organization") if obj else always

    def get_queryset(self, request: HttpRequest) -> QuerySet[Wallet]:
        return super().get_queryset(request).select_related("organization", "plan")

    def has_delete_permission(self, request: HttpRequest, obj: Wallet | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Wallet, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=form.changed_data)
        else:
            ledger.wallet_of(obj.organization_id)
            obj.refresh_from_db()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        wallet = self.get_object(request, object_id)
        extra = {"transfers": transfers_table(wallet), "holds": holds_table(wallet)} if wallet else {}
        return super().change_view(request, object_id, form_url, extra | (extra_context or {}))

    @display(description="Posted", ordering="posted_nanos")
    def posted(self, wallet: Wallet) -> str:
        return cell(wallet.posted_nanos)

    @display(description="Held", ordering="held_nanos")
    def held(self, wallet: Wallet) -> str:
        return cell(wallet.held_nanos)

    @display(description="Available", ordering=F("posted_nanos") - F("held_nanos") + F("overdraft_nanos"))
    def available(self, wallet: Wallet) -> str:
        return cell(wallet.available_nanos)

    @display(description="State", label={"open": "success", "frozen": "danger"})
    def state(self, wallet: Wallet) -> str:
        return "open" if wallet.frozen_at is None else "frozen"

    def _deed(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        wallet = self.get_object(request, object_id)
        if wallet is None:
            raise Http404(f"There is no wallet {object_id}.")
        back = reverse("admin:billing_wallet_change", args=[wallet.pk])
        return two_steps.run(request, self, wallet, DEEDS[name], back)

    @action(description="Credit", icon="add", permissions=["change"])
    def credit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._deed(request, object_id, "credit")

    @action(description="Debit", icon="remove", permissions=["change"])
    def debit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._deed(request, object_id, "debit")

    @action(description="Refund", icon="undo", permissions=["change"])
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._deed(request, object_id, "refund")

    @action(description="Set plan", icon="loyalty", permissions=["change"])
    def set_plan(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._deed(request, object_id, "plan")

    @action(description="Freeze", icon="ac_unit", permissions=["change"])
    def freeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._deed(request, object_id, "freeze")

    @action(description="Unfreeze", icon="sunny", permissions=["change"])
    def unfreeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._deed(request, object_id, "unfreeze")

    @action(description="Write off", icon="money_off", permissions=["change"])
    def write_off(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._deed(request, object_id, "write_off")


def transfers_table(wallet: Wallet) -> dict[str, Any]:
    """Return the wallet's latest transfers for Unfold's table: both sides by their own index, newest first."""
    given = Transfer.objects.filter(debit_id=wallet.pk).order_by("-pk")[:LATEST]
    taken = Transfer.objects.filter(credit_id=wallet.pk).order_by("-pk")[:LATEST]
    latest = sorted({*given, *taken}, key=lambda transfer: transfer.pk, reverse=True)[:LATEST]
    names = account_names(account for transfer in latest for account in (transfer.debit_id, transfer.credit_id))
    rows = []
    for transfer in latest:
        comes = transfer.credit_id == wallet.pk
        rows.append(
            [
                format_html(
                    '<a class="whitespace-nowrap" href="{}">{}</a>',
                    reverse("admin:billing_transfer_change", args=[transfer.pk]),
                    f"{transfer.created_at:%Y-%m-%d %H:%M:%S}",
                ),
                transfer.get_kind_display(),
                cell(transfer.amount_nanos if comes else -transfer.amount_nanos),
                names[transfer.debit_id if comes else transfer.credit_id],
                transfer.reason or transfer.reference or transfer.request_id or "",
            ]
        )
    return {"headers": ["Time (UTC)", "Kind", "Amount", "From or to", "Reason, reference or request"], "rows": rows}


def holds_table(wallet: Wallet) -> dict[str, Any]:
    """Return the wallet's latest open holds for Unfold's table."""
    holds = Hold.objects.filter(organization_id=wallet.pk).order_by("-pk")[:LATEST]
    rows = [
        [
            str(hold.request_id),
            cell(hold.amount_nanos),
            "wallet" if hold.metered else "nobody (recorded only)",
            f"{hold.created_at:%Y-%m-%d %H:%M:%S}",
            f"{hold.lease_until:%H:%M:%S}",
        ]
        for hold in holds
    ]
    return {"headers": ["Request", "Holds", "Paid by", "Since (UTC)", "Lease until"], "rows": rows}
