"""The provider's page with a button that tests the connection, for catalog may not know how to call an upstream."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.forms import BaseDialogForm

from accounts.admin.key import confirmation
from catalog.admin import ProviderAdmin
from catalog.models import Provider
from gateway import connection

admin.site.unregister(Provider)

AT_ONCE_MAX = 10


@admin.register(Provider)
class TestableProviderAdmin(ProviderAdmin):
    actions = ("test_selected",)
    actions_detail = ("test_connection",)
    actions_row = ("test_connection",)

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
        provider = self.get_object(request, object_id)
        if provider is None:
            messages.error(request, f"There is no provider {object_id}.")
            return HttpResponse(headers={"HX-Redirect": reverse("admin:catalog_provider_changelist")})
        _tell(request, provider)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:catalog_provider_change", args=[provider.pk])})

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
