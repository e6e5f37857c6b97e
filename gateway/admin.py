"""The provider's page with what calls an upstream, which catalog may not: its health, checks, and listings."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from accounts.admin.key import confirmation
from catalog import health
from catalog.admin import ProviderAdmin
from catalog.models import Provider, Standing
from gateway import checks, connection, discovery, provider_page

admin.site.unregister(Provider)

AT_ONCE_MAX = 10


@admin.register(Provider)
class TestableProviderAdmin(ProviderAdmin):
    actions = ("test_selected", "check_selected")
    actions_detail = ("check_now", "test_connection", "find_models")
    actions_row = ("check_now", "test_connection")
    change_form_outer_before_template = "admin/gateway/provider_health.html"
    change_form_outer_after_template = "admin/gateway/provider_records.html"

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        first, *others = super().get_list_display(request)
        return (str(first), "health", *(str(other) for other in others))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        # What nobody renewed is not known any more.
        own = Standing.objects.filter(
            provider=OuterRef("pk"), credential=None, target=None, trusted_until_at__gt=timezone.now()
        )
        return super().get_queryset(request).annotate(health_state=Subquery(own.values("state")[:1]))

    @display(description="Health", ordering="health_state", label=provider_page.COLOURS)
    def health(self, provider: Any) -> str:
        if provider.check_by == Provider.OFF or provider.source == Provider.DEMO:
            return "not checked"
        return provider.health_state or health.UNKNOWN

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        provider = self.get_object(request, object_id)
        extra = provider_page.context(provider, timezone.now()) if provider else {}
        return super().change_view(request, object_id, form_url, extra | (extra_context or {}))

    @action(
        description="Check now",
        icon="ecg_heart",
        permissions=["change"],
        dialog=confirmation(
            "Check this provider now?",
            "Does what its scheduled check does, with each of its credentials, whatever today's budget.",
            "Check",
        ),
    )
    def check_now(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return self._done(request, object_id, _check)

    def _done(self, request: HttpRequest, object_id: str, act: Callable[[HttpRequest, Provider], None]) -> HttpResponse:
        provider = self.get_object(request, object_id)
        if provider is None:
            messages.error(request, f"There is no provider {object_id}.")
            return HttpResponse(headers={"HX-Redirect": reverse("admin:catalog_provider_changelist")})
        act(request, provider)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:catalog_provider_change", args=[provider.pk])})

    @admin.action(description="Check now", permissions=["change"])
    def check_selected(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        for provider in queryset[:AT_ONCE_MAX]:
            _check(request, provider)
        if queryset.count() > AT_ONCE_MAX:
            messages.warning(request, f"Only the first {AT_ONCE_MAX} were checked.")

    @action(
        description="Find models",
        icon="travel_explore",
        permissions=["change"],
        dialog=confirmation(
            "Compare its list of models now?",
            "New ones with a known price are proposed or published, as set below; vanished ones are flagged.",
            "Compare",
        ),
    )
    def find_models(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        provider = self.get_object(request, object_id)
        page = reverse("admin:catalog_proposal_changelist")
        if provider is None:
            messages.error(request, f"There is no provider {object_id}.")
        elif provider.source == Provider.DEMO:
            messages.error(request, "The demo is part of this installation: it has no new models.")
        else:
            outcome = discovery.compare(provider, timezone.now())
            (messages.error if outcome.problem else messages.success)(request, f"{provider.slug}: {outcome}.")
        return HttpResponse(headers={"HX-Redirect": page})

    @action(
        description="Test connection",
        icon="network_check",
        permissions=["change"],
        dialog=confirmation(
            "Test this connection?",
            "Lists the upstream's models and sends it one tiny request, at a fraction of a cent.",
            "Test",
        ),
    )
    def test_connection(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return self._done(request, object_id, _tell)

    @admin.action(description="Test connection", permissions=["change"])
    def test_selected(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        for provider in queryset[:AT_ONCE_MAX]:
            _tell(request, provider)
        if queryset.count() > AT_ONCE_MAX:
            messages.warning(request, f"Only the first {AT_ONCE_MAX} were tested.")


def _tell(request: HttpRequest, provider: Provider) -> None:
    result = connection.test(provider)
    tell = messages.success if result.ok else messages.error
    tell(request, f"{provider.slug}: {result.message}")


def _check(request: HttpRequest, provider: Provider) -> None:
    if provider.source == Provider.DEMO:
        messages.error(request, "The demo is part of this installation: it is not checked.")
        return
    found = checks.check(provider)
    tell = messages.success if found.state == health.UP else messages.error
    tell(request, f"{provider.slug} is {found.state}: {found.reason}")
