"""The admin's pages of what: providers and their credentials, models, aliases, targets and prices.

Invariants: a credential is written and never read back, its fingerprint tells which it is; a price is added, never
changed; people read and write dollars per million, the database holds integer nano-dollars.
"""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Case, Count, Q, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.debug import sensitive_post_parameters
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm, PaginationInlineFormSet
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminPasswordWidget,
)

from accounts.admin.key import confirmation
from accounts.integers import IntegerAsText
from accounts.lines import HeadersField, ListField
from accounts.read_only import ReadOnly
from catalog import credentials, flags, proposals, rates, standings, tariff
from catalog.models import Alias, Credential, Model, Price, Proposal, Provider, Target
from catalog.price_list import PriceListError


def rate_field(**kwargs: Any) -> IntegerAsText:
    """Return a field with dollars on the page and nano-dollars in the database; what cannot be kept is refused."""
    return IntegerAsText(rates.to_dollars, rates.to_nanos, "$", **kwargs)


class SecretForm(forms.ModelForm):  # type: ignore[type-arg]
    """A credential: its secret goes in and never comes out. A name is part of what it is bound to, so it stays."""

    secret = forms.CharField(
        required=False,
        strip=True,
        max_length=8192,
        help_text="Never shown again. Empty keeps the one that is stored.",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = Credential
        fields = ("name", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["name"].disabled = True

    def clean_secret(self) -> str:
        secret: str = self.cleaned_data["secret"]
        if not secret and not self.instance.pk:
            raise forms.ValidationError("Enter the secret.")
        if not secret.isascii() or not secret.isprintable():
            raise forms.ValidationError("A secret is sent in a header: it holds printable ASCII characters only.")
        return secret


class SecretFormSet(PaginationInlineFormSet):
    """Hand what was entered to `credentials.store`; a changed base URL may have dropped the row meanwhile."""

    def save_new(self, form: Any, commit: bool = True) -> Credential:
        return self._store(form, form.cleaned_data["name"])

    def save_existing(self, form: Any, obj: Credential, commit: bool = True) -> Credential:
        if form.cleaned_data["secret"]:
            return self._store(form, obj.name)
        Credential.objects.filter(pk=obj.pk).update(enabled=form.cleaned_data["enabled"])
        return obj

    def _store(self, form: Any, name: str) -> Credential:
        row = credentials.store(self.instance, form.cleaned_data["secret"], name=name)
        row.enabled = form.cleaned_data["enabled"]
        row.save(update_fields=["enabled"])
        return row


class CredentialInline(TabularInline):
    model = Credential
    form = SecretForm
    formset = SecretFormSet
    extra = 0
    hide_title = True
    fields = ("name", "secret", "fingerprint", "enabled", "source", "created_at")
    readonly_fields = ("fingerprint", "source", "created_at")


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    """An upstream's address, its dialects and how a credential is shown to it."""

    flags = forms.MultipleChoiceField(
        label="Compatibility",
        choices=[(flag, flag) for flag in flags.FLAGS],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="The dialects this upstream speaks; never what a caller may use. openai_chat alone fits most.",
    )
    add_headers = HeadersField(
        label="Added headers",
        required=False,
        rows=2,
        help_text="Sent with each request. Name: value, one to a line. Shown in clear: a key belongs in a credential.",
    )

    forward_headers = ListField(
        label="Forwarded headers",
        required=False,
        help_text="Headers of a caller's request that this upstream gets where both speak one dialect, one to a line. "
        "With a colon only the values that match, between blanks: anthropic-beta: context-1m-* files-api-*",
    )

    check_nanos_per_day = rate_field(
        label="Checks' dollars a day",
        help_text="What tiny requests may cost the house. Nobody else is charged for them.",
    )

    class Meta:
        model = Provider
        fields = (
            "slug", "name", "enabled", "base_url", "authorization", "auth_mode", "flags", "preference", "timeout_s",
            "add_headers", "forward_headers", "mends", "on_disconnect", "cost_basis", "model_cost_map", "description",
            "check_by", "check_interval_s", "check_requests_per_day", "check_nanos_per_day", "discovery",
        )  # fmt: skip


class HasTargets(admin.SimpleListFilter):
    """Rows with or without an enabled target."""

    title = "targets"
    parameter_name = "targets"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("some", "With targets"), ("none", "Without targets")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        enabled = Target.objects.filter(enabled=True).values(f"{queryset.model._meta.model_name}_id")
        if self.value() == "some":
            return queryset.filter(pk__in=enabled)
        return queryset.exclude(pk__in=enabled) if self.value() == "none" else queryset


# An error page must not quote what was typed into the secret field.
@method_decorator(sensitive_post_parameters(), name="changeform_view")
@admin.register(Provider)
class ProviderAdmin(ModelAdmin):
    form = ProviderForm
    list_display = (
        "shown_id",
        "base_url",
        "dialects",
        "credential_count",
        "target_count",
        "preference",
        "enabled",
        "source",
    )
    list_filter = ("enabled", "source", "authorization", HasTargets)
    search_fields = ("slug", "name", "base_url", "description")
    readonly_fields = ("source", "created_at")
    ordering = ("slug",)
    inlines: ClassVar[list[Any]] = [CredentialInline]
    fieldsets = (
        (None, {"fields": ("slug", "name", "enabled", "base_url", "authorization", "auth_mode", "flags")}),
        (
            "Routing",
            {"fields": ("preference", "timeout_s", "add_headers", "forward_headers", "on_disconnect", "mends")},
        ),
        (
            "Checks and new models",
            {
                "fields": (
                    ("check_by", "check_interval_s"),
                    ("check_requests_per_day", "check_nanos_per_day"),
                    "discovery",
                )
            },
        ),
        ("Prices", {"fields": ("cost_basis", "model_cost_map"), "classes": ("collapse",)}),
        ("Notes", {"fields": ("description", "source", "created_at"), "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        counts = {
            "credentials_count": Count("credentials", filter=Q(credentials__enabled=True), distinct=True),
            "targets_count": Count("targets", filter=Q(targets__enabled=True), distinct=True),
        }
        return super().get_queryset(request).annotate(**counts)

    @display(description="Id", ordering="slug")
    def shown_id(self, provider: Provider) -> str:
        return format_html('<span class="whitespace-nowrap">{}</span>', provider.slug)

    @display(description="Dialects")
    def dialects(self, provider: Provider) -> str:
        return ", ".join(provider.flags)

    @display(description="Credentials", ordering="credentials_count")
    def credential_count(self, provider: Any) -> int:
        return int(provider.credentials_count)

    @display(description="Targets", ordering="targets_count")
    def target_count(self, provider: Any) -> int:
        return int(provider.targets_count)

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        before = set(obj.credentials.values_list("name", flat=True)) if change else set()
        super().save_model(request, obj, form, change)
        # What was changed may have mended it, or wants it to be looked at more often.
        standings.look_soon(obj)
        dropped = before - set(obj.credentials.values_list("name", flat=True))
        if dropped:
            messages.warning(
                request,
                f"The address is another host now, so the credentials bound to the old one are dropped: "
                f"{', '.join(sorted(dropped))}. Those entered with this change are kept.",
            )


class AliasInline(TabularInline):
    model = Alias
    extra = 0
    hide_title = True


class TargetInline(TabularInline):
    model = Target
    extra = 0
    hide_title = True
    autocomplete_fields = ("provider",)
    fields = ("provider", "upstream_id", "weight", "preference", "price", "enabled", "source")
    readonly_fields = ("price", "source")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Target]:
        return _with_prices(super().get_queryset(request))

    @display(description="$ per million")
    def price(self, target: Target) -> str:
        if target._state.adding:
            return ""
        page = reverse("admin:catalog_target_change", args=[target.pk])
        return format_html('<a class="text-link" href="{}">{}</a>', page, _price_in_force(target))


@admin.register(Model)
class ModelPageAdmin(ModelAdmin):
    list_display = (
        "public_id",
        "name",
        "owner",
        "kind",
        "target_count",
        "context_tokens",
        "listed",
        "enabled",
        "source",
    )
    list_filter = ("enabled", "kind", "source", "listed", HasTargets, "targets__provider")
    search_fields = ("public_id", "name", "owner", "aliases__name", "targets__upstream_id")
    readonly_fields = ("source", "created_at")
    ordering = ("public_id",)
    inlines: ClassVar[list[Any]] = [TargetInline, AliasInline]
    fieldsets = (
        (None, {"fields": ("public_id", "name", "owner", "kind", "enabled", "listed")}),
        (
            "Capabilities",
            {
                "fields": (
                    ("supports_tools", "supports_vision", "supports_audio"),
                    ("supports_json_schema", "supports_reasoning"),
                    "context_tokens",
                    "output_tokens_max",
                    "timeout_s",
                )
            },
        ),
        ("Words", {"fields": ("best_for", "description", "source", "created_at"), "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        count = Count("targets", filter=Q(targets__enabled=True), distinct=True)
        return super().get_queryset(request).annotate(targets_count=count)

    @display(description="Targets", ordering="targets_count")
    def target_count(self, model: Any) -> int:
        return int(model.targets_count)


@admin.register(Alias)
class AliasAdmin(ModelAdmin):
    list_display = ("name", "model")
    list_select_related = ("model",)
    search_fields = ("name", "model__public_id")
    autocomplete_fields = ("model",)
    ordering = ("name",)


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    """Rates in dollars. An empty one costs what its parent part does."""

    input = rate_field()
    output = rate_field()
    cache_read = rate_field(required=False)
    cache_write_5m = rate_field(label="Cache write, 5 minutes", required=False)
    cache_write_1h = rate_field(label="Cache write, 1 hour", required=False)
    reasoning = rate_field(required=False)
    audio_input = rate_field(required=False)
    audio_output = rate_field(required=False)
    image_input = rate_field(required=False)
    web_search = rate_field(label="Web search, per thousand", required=False)

    class Meta:
        model = Price
        fields = ("effective_at", *Price.TIER_COLUMNS, *Price.PARTS)

    def clean_service_tier(self) -> str:
        return str(self.cleaned_data["service_tier"]).strip().lower()


class PastPriceInline(ReadOnly, TabularInline):
    """The prices that are written: usage names them, so they stay as they are."""

    model = Price
    extra = 0
    hide_title = True
    verbose_name_plural = "Prices, $ per million tokens"
    fields = ("effective_at", "tier", "input_rate", "output_rate", "other_rates", "source")
    readonly_fields = fields
    ordering = ("-effective_at", "-pk")

    @display(description="Input")
    def input_rate(self, price: Price) -> str:
        return f"${rates.to_dollars(price.input)}"

    @display(description="Output")
    def output_rate(self, price: Price) -> str:
        return f"${rates.to_dollars(price.output)}"

    @display(description="Other")
    def other_rates(self, price: Price) -> str:
        others = {part: getattr(price, part) for part in Price.PARTS if part not in ("input", "output")}
        return ", ".join(
            f"{part.replace('_', ' ')} ${rates.to_dollars(nanos)}"
            for part, nanos in others.items()
            if nanos is not None
        )


class NewPriceInline(StackedInline):
    """A price that begins at a moment.

    It replaces the one before from then on, and its tiers too unless it is a tier itself: then it is added to them.
    """

    model = Price
    form = PriceForm
    extra = 0
    verbose_name = "new price"
    verbose_name_plural = "Add a price, $ per million tokens"
    fields = (
        "effective_at",
        ("above_context_tokens", "service_tier"),
        ("input", "output", "reasoning"),
        ("cache_read", "cache_write_5m", "cache_write_1h"),
        ("audio_input", "audio_output", "image_input"),
        "web_search",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        return Price.objects.none()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Target)
class TargetAdmin(ModelAdmin):
    list_display = ("upstream_id", "provider", "model", "health", "price", "weight", "preference", "enabled", "source")
    list_filter = ("enabled", "standing__state", "provider", "source")
    list_select_related = ("model", "provider", "standing")
    search_fields = ("upstream_id", "model__public_id", "provider__slug")
    autocomplete_fields = ("model", "provider")
    readonly_fields = ("source",)
    ordering = ("provider__slug", "upstream_id")
    fields = ("model", "provider", "upstream_id", "weight", "preference", "enabled", "source")
    inlines: ClassVar[list[Any]] = [NewPriceInline, PastPriceInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Target]:
        return _with_prices(super().get_queryset(request)).select_related("standing")

    @display(
        description="Health",
        ordering="standing__state",
        label={"up": "success", "failing": "warning", "down": "danger"},
    )
    def health(self, target: Target) -> str | None:
        standing = getattr(target, "standing", None)
        return standing.state if standing else None

    @display(description="$ per million")
    def price(self, target: Target) -> str:
        return _price_in_force(target)


def _with_prices(targets: QuerySet[Target]) -> QuerySet[Target]:
    return targets.select_related("model", "provider").prefetch_related("prices")


def _price_in_force(target: Target) -> str:
    current = tariff.in_force(target.prices.all(), timezone.now())
    return "; ".join(" ".join(filter(None, [str(price), price.tier])) for price in current) or "no price"


@admin.register(Proposal)
class ProposalAdmin(ReadOnly, ModelAdmin):
    """What the providers' listings and the price data suggest: accepted or ignored here, and then remembered."""

    list_display = (
        "upstream_id", "provider", "what", "public_id", "model_kind", "price", "reason", "outcome", "created_at",
    )  # fmt: skip
    list_filter = ("state", "kind", "provider")
    list_select_related = ("provider",)
    search_fields = ("upstream_id", "public_id", "name", "provider__slug")
    ordering = (
        Case(When(state=Proposal.OPEN, then=Value(0)), default=Value(1)).asc(),
        "-created_at",
        "provider__slug",
        "upstream_id",
    )
    actions = ("accept_selected", "ignore_selected")
    actions_detail = ("accept_one", "ignore_one")
    actions_row = ("accept_one", "ignore_one")
    fields = (
        "provider", "upstream_id", "what", "public_id", "name", "model_kind", "context_tokens", "price", "reason",
        "outcome", "created_at", "decided_at",
    )  # fmt: skip
    readonly_fields = fields

    def has_decide_permission(self, request: HttpRequest, _object_id: Any = None) -> bool:
        """Whoever may change proposals may decide them."""
        return bool(request.user.has_perm("catalog.change_proposal"))

    @display(description="Proposal", label={"new": "info", "vanished": "warning", "price": "danger"})
    def what(self, proposal: Proposal) -> str:
        return proposal.kind

    @display(
        description="State",
        ordering="state",
        label={"open": "warning", "accepted": "success", "published": "success"},
    )
    def outcome(self, proposal: Proposal) -> str:
        return proposal.state

    @display(description="$ per million")
    def price(self, proposal: Proposal) -> str:
        if proposal.input is None or proposal.output is None:
            return ""
        return f"${rates.to_dollars(proposal.input)} in, ${rates.to_dollars(proposal.output)} out"

    @admin.action(description="Accept", permissions=["decide"])
    def accept_selected(self, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
        self._accept(request, queryset)

    @admin.action(description="Ignore", permissions=["decide"])
    def ignore_selected(self, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
        self._ignore(request, queryset)

    @action(
        description="Accept",
        icon="check",
        permissions=["decide"],
        dialog=confirmation(
            "Accept this proposal?",
            "A new model is published with its price; the targets of a vanished one are switched off; a price begins.",
            "Accept",
        ),
    )
    def accept_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        self._accept(request, Proposal.objects.filter(pk=object_id))
        return HttpResponse(headers={"HX-Redirect": reverse("admin:catalog_proposal_changelist")})

    @action(
        description="Ignore",
        icon="close",
        permissions=["decide"],
        dialog=confirmation("Ignore this proposal?", "It is not made again; a price stays as it is.", "Ignore"),
    )
    def ignore_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        self._ignore(request, Proposal.objects.filter(pk=object_id))
        return HttpResponse(headers={"HX-Redirect": reverse("admin:catalog_proposal_changelist")})

    def _accept(self, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
        try:
            done = proposals.accept(queryset.select_related("provider"), timezone.now())
        except PriceListError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{done}.")

    def _ignore(self, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
        messages.success(request, f"{proposals.ignore(queryset, timezone.now())} ignored.")
