"""The admin's pages of leaks: what was found where, and a form to report what a person found.

The form takes any text and keeps none of it: its second page says what the text holds, and carries the keys' digests,
signed, in the place of the keys.
"""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core import signing
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from accounts.leaks import matches, revocation
from accounts.leaks.revocation import Owned, State, Suspect
from accounts.models import APIKey, Leak, User
from accounts.read_only import ReadOnly

TEMPLATE = "admin/accounts/report_leak.html"
SALT = "accounts.admin.leak"
CONFIRMED_WITHIN_S = 900
TEXT_LENGTH_MAX = 200_000
KEYS_MAX = 500
PIECE_LENGTH = 24

NO_KEY = (
    "The text holds no API key. One is sg- and 36 letters and digits, of which the last six are a checksum: "
    "look for characters that are missing or were changed."
)


class ReportForm(forms.Form):
    """A text that holds keys, and where it was found."""

    text = forms.CharField(
        label="Keys, or a text that holds them",
        max_length=TEXT_LENGTH_MAX,
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6, "spellcheck": "false", "autocomplete": "off"}),
        help_text="Nothing of it is kept. Only what has a key's form and checksum is taken.",
    )
    url = forms.CharField(
        label="Where it was found",
        max_length=matches.PLACE_LENGTH_MAX,
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="An address or a few words. The owner reads it in the mail.",
    )

    def clean_text(self) -> list[str]:
        found = matches.in_text(self.cleaned_data["text"])
        if not found:
            raise forms.ValidationError(NO_KEY)
        if len(found) > KEYS_MAX:
            raise forms.ValidationError(f"More than {KEYS_MAX} keys at once: use manage.py report_leak.")
        return found


class OursFilter(admin.SimpleListFilter):
    """Keys of this installation, and what only looked like one."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Was live"), ("dead", "Was dead already"), ("false", "False positive")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "false":
            return queryset.filter(key=None)
        if self.value() in ("live", "dead"):
            return queryset.filter(key__isnull=False, was_live=self.value() == "live")
        return queryset


@admin.register(Leak)
class LeakAdmin(ReadOnly, ModelAdmin):
    list_display = ("masked", "kind", "replaced", "owner", "where", "reporting", "reported_at")
    list_display_links = ("masked",)
    list_filter = (OursFilter, "channel", "reported_at")
    list_select_related = ("key", "key__user", "reporter")
    list_fullwidth = True
    search_fields = ("display", "url", "key__name", "key__user__email")
    ordering = ("-reported_at", "-pk")
    actions_list = ("report",)
    fieldsets = (
        (None, {"fields": ("masked", "kind", "key", "owner")}),
        ("Where", {"fields": ("where", "source", "reporting", "reported_at")}),
        ("What was done", {"fields": ("replaced", "replaced_at", "told_at")}),
    )
    readonly_fields = ("masked", "kind", "owner", "where", "reporting", "replaced")

    @display(description="Key", ordering="display")
    def masked(self, leak: Leak) -> str:
        return format_html('<span class="whitespace-nowrap font-mono">{}</span>', leak.display)

    @display(description="Was", label={"live": "danger", "dead": "info", "false positive": "success"})
    def kind(self, leak: Leak) -> str:
        if leak.key_id is None:
            return "false positive"
        return "live" if leak.was_live else "dead"

    @display(description="Owner", ordering="key__user__email")
    def owner(self, leak: Leak) -> str:
        return f"{leak.key.user} ({leak.key.name})" if leak.key else "-"

    @display(description="Where", ordering="url")
    def where(self, leak: Leak) -> str:
        # Never a link: whoever leaks a key writes what is there. A long address may break anywhere.
        pieces = [leak.url[start : start + PIECE_LENGTH] for start in range(0, len(leak.url), PIECE_LENGTH)]
        return format_html_join(mark_safe("<wbr>"), "{}", ((piece,) for piece in pieces)) or "-"

    @display(description="Reported by", ordering="channel")
    def reporting(self, leak: Leak) -> str:
        return str(leak.reporter) if leak.reporter else str(leak.get_channel_display())

    @display(description="Replaced", label={"yes": "success", "waits": "warning"})
    def replaced(self, leak: Leak) -> str:
        if leak.replaced_at:
            return "yes"
        return "waits" if leak.due_at else "no"

    def has_report_permission(self, request: HttpRequest, *_arguments: Any) -> bool:
        """Whoever may revoke keys may report them."""
        return request.user.has_perm("accounts.change_apikey")

    @action(description="Report a leaked key", icon="report", permissions=["report"])
    def report(self, request: HttpRequest) -> HttpResponse:
        """Ask for a text, show what it holds, and then revoke that."""
        if "confirmed" in request.POST:
            return self._confirmed(request)
        form = ReportForm(request.POST or None)
        context = {
            **self.admin_site.each_context(request),
            "title": "Report a leaked key",
            "opts": self.model._meta,
            "form": form,
            "back": reverse("admin:accounts_leak_changelist"),
        }
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            texts = data["text"]
            suspects = [each for text in texts if (each := revocation.suspect(text, data["url"], "report"))]
            owned = revocation.look_up(suspects, timezone.now())
            context |= {"found": table(suspects, owned), "sealed": sealed(suspects)}
            context["live_count"] = sum(revocation.state(each) is State.LIVE for each in owned)
        return TemplateResponse(request, TEMPLATE, context)

    def _confirmed(self, request: HttpRequest) -> HttpResponse:
        back = reverse("admin:accounts_leak_changelist")
        try:
            suspects = opened(request.POST["confirmed"])
        except (signing.BadSignature, signing.SignatureExpired):
            messages.error(request, "The page was too old; paste the keys again. Nothing was revoked.")
            return HttpResponseRedirect(back)
        reporter = request.user if isinstance(request.user, User) else None
        states = revocation.report(suspects, Leak.ADMIN, timezone.now(), reporter=reporter)
        live, dead, unknown = (states.count(state) for state in State)
        messages.success(
            request,
            f"{live} revoked; the replacement and the mail to the owner follow. "
            f"{dead} were dead already, {unknown} were never issued here.",
        )
        return HttpResponseRedirect(back)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Leak]:
        return super().get_queryset(request).select_related("key__user", "reporter")


def table(suspects: list[Suspect], owned: list[Owned | None]) -> dict[str, Any]:
    """Return what was found, for people."""
    rows = APIKey.objects.select_related("user").in_bulk([each.key_id for each in owned if each])
    says = {
        State.LIVE: "live: will be revoked and replaced",
        State.DEAD: "dead already",
        State.UNKNOWN: "no key of this installation",
    }
    found = []
    for suspect, whose in zip(suspects, owned, strict=True):
        key = rows[whose.key_id] if whose else None
        owner = f"{key.user} ({key.name})" if key else "-"
        found.append([suspect.display, owner, says[revocation.state(whose)]])
    return {"headers": ["Key", "Owner", "State"], "rows": found}


def sealed(suspects: list[Suspect]) -> str:
    """Return suspects as a signed text without any key."""
    plain = [[[digest.hex() for digest in each.digests], each.display, each.url, each.source] for each in suspects]
    return signing.dumps(plain, salt=SALT, compress=True)


def opened(text: str) -> list[Suspect]:
    """Return the suspects of `sealed`, or raise BadSignature."""
    plain = signing.loads(text, salt=SALT, max_age=CONFIRMED_WITHIN_S)
    return [
        Suspect(tuple(bytes.fromhex(digest) for digest in digests), display, url, source)
        for digests, display, url, source in plain
    ]
