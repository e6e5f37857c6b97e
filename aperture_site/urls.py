"""Django's pages. API paths never come here: `asgi` routes them to the gateway first."""

from django.contrib import admin
from django.urls import include, path

from aperture_site import live_page
from billing.api import keys
from billing.payments.views import ROUTES as PAYMENTS
from gateway import quotas
from gateway.leaks import ROUTES as LEAKS

urlpatterns = [
    live_page.route(),
    path("admin/", admin.site.urls),
    path("api/billing/", include("billing.api.urls")),
    path("api/keys", keys.Keys.as_view()),
    path("api/keys/<int:key_id>", keys.Key.as_view()),
    path("api/keys/<int:key_id>/reset", keys.Reset.as_view()),
    path("api/keys/<int:key_id>/end-overlap", keys.EndOverlap.as_view()),
    path("api/keys/<int:key_id>/revoke", keys.Revoke.as_view()),
    path("api/keys/<int:key_id>/handover", keys.Collect.as_view()),
    path("api/quotas", quotas.Quotas.as_view()),
    path("api/quotas/refill", quotas.Refill.as_view()),
    path("api/quotas/<path:name>", quotas.Quota.as_view()),
    *(path(route, view) for route, view in PAYMENTS),
    *(path(route, view) for route, view in LEAKS),
    path("", include("aperture_site.pages.urls")),
]
