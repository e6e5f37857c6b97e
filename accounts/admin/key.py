"""The admin's pages of keys: how each stands, and what may be done to it.

Invariants: a secret's clear text appears once, in the message after it was made (a cookie of that browser carries it,
no row does); no page shows a digest. A key is revoked, never deleted, for usage names it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timeuntil
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from accounts import handover, keys, rotation
from accounts.lines import LabelsField, ListField, NetworksField
from accounts.models import ROTATION_DAYS_MIN, APIKey, Membership, Organization, RetiredSecret
from accounts.read_only import ReadOnly

GLOBS_HELP = (
    "One to a line, as public ids or provider/id: * is one segment, ** is any number. "
    "Such as openai/gpt-4o, anthropic/* or **."
)
EXPIRES_SOON = timedelta(days=7)


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A key's name and bounds. Its organization may be left out: the user's own."""

    labels = LabelsField(required=False, help_text="For cost: name=value, one to a line, such as project=search.")
    model_globs = ListField(label="Models", required=False, help_text=f"{GLOBS_HELP} Empty means all that is granted.")
    ip_allowlist = NetworksField(
        label="Addresses",
        required=False,
        help_text="One to a line, such as 203.0.113.0/24. Empty means any.",
    )
    scopes = ListField(
        required=False,
        rows=2,
        help_text="One to a line, such as billing:read. Empty means all but billing:write and keys:write.",
    )

    class Meta:
        model = APIKey
        fields = (
            "user", "organization", "name", "model_globs", "labels", "ip_allowlist", "scopes", "expires_at",
            "rotate_after_days",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "organization" in self.fields:
            self.fields["organization"].required = False
            self.fields["organization"].help_text = "Empty means the user's own."

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        user = data.get("user")
        if user and not data.get("organization"):
            data["organization"] = user.personal_organization
        elif user and not Membership.objects.filter(user=user, organization=data["organization"]).exists():
            self.add_error("organization", f"{user} is not a member of it; add the user to the organization first.")
        return data


# Whoever has left an organization calls no more with its keys (`gateway.callers` asks the same).
OF_MEMBER = Exists(Organization.objects.filter(pk=OuterRef("organization"), personal_user=OuterRef("user"))) | Exists(
    Membership.objects.filter(user=OuterRef("user"), organization=OuterRef("organization"))
)


class KeyStateFilter(admin.SimpleListFilter):
    """Keys that are accepted, and those that are not, by the reason."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("live", "Live"), ("soon", "Expires within a week"), ("rotating", "Rotating"), ("waiting", "Secret waits"),
            ("off", "Owner off or left"), ("expired", "Expired"), ("revoked", "Revoked"), ("leaked", "Leaked"),
        ]  # fmt: skip

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        now = timezone.now()
        accepted = Q(user__is_active=True, organization__is_active=True, of_member=True)
        unexpired = queryset.filter(pk__in=APIKey.objects.live(now).values("pk"))
        rotating = RetiredSecret.objects.filter(accepted_until__gt=now)
        found = {
            "live": unexpired.filter(accepted),
            "soon": unexpired.filter(expires_at__lte=now + EXPIRES_SOON),
            "rotating": unexpired.filter(pk__in=rotating.values("key")),
            "waiting": unexpired.filter(handover__sealed__isnull=False, handover__expires_at__gt=now),
            "off": unexpired.filter(~accepted),
            "expired": queryset.filter(revoked_at=None, expires_at__lte=now),
            "revoked": queryset.exclude(revoked_at=None),
            "leaked": queryset.exclude(revoked_at=None).filter(revoked_for=APIKey.LEAKED),
        }
        return found.get(self.value() or "", queryset)


class KeyDialog(BaseDialogForm):
    """A question about one key, below what is known of its use."""

    form_before_template = "admin/accounts/key_use.html"

    def get_before_template_context(self, request: HttpRequest, object_id: int | str | None = None) -> dict[str, Any]:
        page: Any = admin.site.get_model_admin(APIKey)
        key = page.get_object(request, object_id)
        return {"lines": page.use_of(key) if key else []}


class ResetDialog(KeyDialog):
    """How long the former secret is still accepted."""

    overlap_s = forms.TypedChoiceField(
        label="The present secret is refused",
        coerce=int,
        choices=[(0, "at once"), (3600, "in an hour"), (86_400, "in a day"), (rotation.OVERLAP_S_MAX, "in a week")],
        initial=0,
        widget=UnfoldAdminSelectWidget,
        help_text="After a leak: at once.",
    )


class AgeDialog(BaseDialogForm):
    """How old a key's secret may become."""

    days = forms.IntegerField(
        label="Rotate after days",
        required=False,
        min_value=ROTATION_DAYS_MIN,
        max_value=3660,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Empty: what its organization says. Its owner is told a week before.",
    )


def confirmation(
    title: str, description: str, button: str, form_class: type[BaseDialogForm] = BaseDialogForm
) -> dict[str, Any]:
    """Return the dialog of an action that is confirmed first."""
    return {"title": title, "description": description, "form_class": form_class, "form_submit_text": button}


COPY = """
<span x-data="{{copied: false}}" class="inline-flex flex-row flex-wrap items-center gap-3">
  <code class="select-all break-all font-mono font-semibold" x-ref="secret" data-key>{}</code>
  <button type="button" class="cursor-pointer inline-flex items-center gap-1 font-semibold underline" data-copy
    x-on:click="getSelection().selectAllChildren($refs.secret); document.execCommand('copy'); copied = true">
    <span class="material-symbols-outlined text-base" x-text="copied ? 'check' : 'content_copy'">content_copy</span>
    <span x-text="copied ? 'Copied' : 'Copy'">Copy</span>
  </button>
</span>
"""


def show_once(request: HttpRequest, clear: str) -> None:
    """Put a key's clear text into the next page that this browser sees."""
    messages.warning(request, format_html(f"Copy this key now, it is not shown again: {COPY}", clear))


def _when(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "never, as this secret"


class FormerSecretInline(ReadOnly, TabularInline):
    model = RetiredSecret
    verbose_name_plural = "Former secrets"
    extra = 0
    hide_title = True
    ordering = ("-retired_at",)
    fields = readonly_fields = ("display", "issued_at", "last_used_at", "retired_at", "reason", "accepted")

    @display(description="Accepted")
    def accepted(self, row: RetiredSecret) -> str:
        if row.accepted_until is None:
            return "no"
        until = f"{row.accepted_until:%Y-%m-%d %H:%M} UTC"
        return f"until {until}" if row.accepted_until > timezone.now() else f"no, since {until}"


@admin.register(APIKey)
class KeyAdmin(ModelAdmin):
    form = KeyForm
    list_display = ("masked", "name", "user", "organization", "state", "expires_at", "last_used_at", "created_at")
    list_display_links = ("masked", "name")
    list_filter = (KeyStateFilter, "created_at", "last_used_at")
    list_select_related = ("user", "organization")
    list_fullwidth = True
    search_fields = ("name", "display", "user__email", "organization__name")
    autocomplete_fields = ("user", "organization")
    ordering = ("-created_at",)
    actions_detail = ("reset", "end_overlap", "set_age", "revoke")
    inlines: ClassVar[list[Any]] = [FormerSecretInline]
    actions_row = ("reset", "revoke")
    add_fieldsets = (
        (None, {"fields": ("user", "organization", "name", "expires_at", "rotate_after_days")}),
        ("Bounds", {"fields": ("model_globs", "ip_allowlist", "scopes")}),
        ("Cost", {"fields": ("labels",)}),
    )
    fieldsets = (
        (None, {"fields": ("display", "standing", "user", "organization", "name", "expires_at", "rotate_after_days")}),
        ("Bounds", {"fields": ("model_globs", "ip_allowlist", "scopes")}),
        ("Cost", {"fields": ("labels",)}),
        ("Times", {"fields": ("created_at", "issued_at", "last_used_at", "waits_until", "revoked_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        return super().get_queryset(request).annotate(of_member=OF_MEMBER).prefetch_related("retired")

    def get_readonly_fields(self, request: HttpRequest, obj: APIKey | None = None) -> tuple[str, ...]:
        # Usage and the wallet follow the owner: a key never moves to another.
        always = ("display", "standing", "created_at", "issued_at", "last_used_at", "waits_until", "revoked_at")
        return (*always, "user", "organization") if obj else always

    def has_delete_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        return False

    @display(description="Key", ordering="display")
    def masked(self, key: APIKey) -> str:
        return format_html('<span class="whitespace-nowrap font-mono">{}</span>', key.display)

    def get_inlines(self, request: HttpRequest, obj: APIKey | None) -> list[Any]:
        return self.inlines if obj else []

    @display(
        description="State",
        label={
            "live": "success", "soon": "warning", "rotating": "info", "expired": "warning", "revoked": "danger",
            "leaked": "danger", "owner off": "warning", "left": "warning",
        },
    )  # fmt: skip
    def state(self, key: Any) -> Any:
        now = timezone.now()
        if key._state.adding:
            return "new"
        state = key.state(now)
        if state not in ("live", "rotating"):
            return state
        if not (key.user.is_active and key.organization.is_active):
            return "owner off"
        if not key.of_member:
            return "left"
        if state == "live" and key.expires_at and key.expires_at <= now + EXPIRES_SOON:
            return "soon", f"expires in {timeuntil(key.expires_at, now, depth=1)}"
        return state

    @display(description="State")
    def standing(self, key: Any) -> str:
        state, former = self.state(key), key.accepted_former(timezone.now())
        if state == "rotating" and former:
            return f"rotating: {former.display} is accepted until {former.accepted_until:%Y-%m-%d %H:%M} UTC"
        return state[1] if isinstance(state, tuple) else str(state)

    @display(description="A new secret waits for the owner until")
    def waits_until(self, key: APIKey) -> Any:
        return handover.waiting(key)

    def use_of(self, key: APIKey) -> list[tuple[str, str]]:
        """Return what is known of a key's use, as labels and values: what a reset or a revocation breaks."""
        former = key.accepted_former(timezone.now())
        lines = [
            ("Key", str(key)),
            ("Owner", f"{key.user} of {key.organization}"),
            ("Last used", _when(key.last_used_at)),
        ]
        return [*lines, ("Former secret used", _when(former.last_used_at))] if former else lines

    def done(self, request: HttpRequest, object_id: str, verb: Callable[[APIKey], str]) -> HttpResponse:
        """Do VERB to a key, say what it says, and return to the list."""
        key = self.get_object(request, object_id)
        if key is None:
            messages.error(request, f"There is no key {object_id}.")
        else:
            try:
                messages.success(request, verb(key))
            except rotation.NotReset as refusal:
                messages.error(request, str(refusal))
        return HttpResponse(headers={"HX-Redirect": reverse("admin:accounts_apikey_changelist")})

    def save_model(self, request: HttpRequest, obj: APIKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        show_once(request, keys.issue(obj))

    @action(
        description="Reset key",
        icon="autorenew",
        permissions=["change"],
        dialog=confirmation(
            "Reset this key?",
            "It gets another secret, shown once; name, bounds, limits, budgets and usage stay. Whoever uses the "
            "present one is refused, everywhere in under a second or when the time that you choose here is over.",
            "Reset",
            ResetDialog,
        ),
    )
    def reset(self, request: HttpRequest, form: ResetDialog, object_id: str) -> HttpResponse:
        def verb(key: APIKey) -> str:
            before, overlap_s = key.display, int(form.cleaned_data["overlap_s"])
            show_once(request, rotation.reset(key, overlap_s=overlap_s))
            when = f"is accepted for {overlap_s} s more" if overlap_s else "is refused"
            self.log_change(request, key, f"Reset: {before} {when}.")
            return f"{key.name} is reset: {before} {when}."

        return self.done(request, object_id, verb)

    @action(
        description="End overlap",
        icon="timer_off",
        permissions=["change"],
        dialog=confirmation(
            "Refuse the former secret now?",
            "Only the key's present secret is accepted from then on, everywhere in under a second.",
            "End overlap",
            KeyDialog,
        ),
    )
    def end_overlap(self, request: HttpRequest, form: KeyDialog, object_id: str) -> HttpResponse:
        def verb(key: APIKey) -> str:
            if not rotation.end_overlap(key):
                return f"{key} has no former secret that is still accepted."
            self.log_change(request, key, "Ended the overlap.")
            return f"Of {key} only the present secret is accepted."

        return self.done(request, object_id, verb)

    @action(
        description="Set rotation",
        icon="event_repeat",
        permissions=["change"],
        dialog=confirmation(
            "Rotate by age?",
            "At this age the key gets another secret by itself; the former one is accepted for a week more (or half "
            "the age), and the new one waits for the owner to sign in.",
            "Set",
            AgeDialog,
        ),
    )
    def set_age(self, request: HttpRequest, form: AgeDialog, object_id: str) -> HttpResponse:
        def verb(key: APIKey) -> str:
            key.rotate_after_days = form.cleaned_data["days"]
            key.save(update_fields=["rotate_after_days"])
            age = f"after {key.rotate_after_days} days" if key.rotate_after_days else "as its organization says"
            self.log_change(request, key, f"Rotates {age}.")
            return f"{key} rotates {age}."

        return self.done(request, object_id, verb)

    @action(
        description="Revoke",
        icon="block",
        permissions=["change"],
        dialog=confirmation(
            "Revoke this key?",
            "It is refused everywhere in under a second, for good. Running streams finish.",
            "Revoke",
            KeyDialog,
        ),
    )
    def revoke(self, request: HttpRequest, form: KeyDialog, object_id: str) -> HttpResponse:
        def verb(key: APIKey) -> str:
            # One that leaked would live again with another secret.
            if key.revoked_at and not key.revoked_for:
                return f"{key} was revoked before."
            key.revoke(timezone.now())
            self.log_change(request, key, "Revoked.")
            return f"{key} is revoked."

        return self.done(request, object_id, verb)
