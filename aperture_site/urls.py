"""Django's pages. API paths never come here: `asgi` routes them to the gateway first."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from billing.payments.views import ROUTES as PAYMENTS

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/billing/", include("billing.api.urls")),
    *(path(route, view) for route, view in PAYMENTS),
]
