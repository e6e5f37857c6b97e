"""The admin's live page: requests as they happen, for those who may see all usage. Its rows come over /live."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from aperture_site.viewers import PERMISSION


def page(request: HttpRequest) -> HttpResponse:
    """Answer with the page; raise PermissionDenied."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    context = {
        **admin.site.each_context(request),
        "title": "Live",
        "usage_url": reverse("admin:billing_usage_changelist"),
    }
    return TemplateResponse(request, "admin/live.html", context)


def route() -> URLPattern:
    """Return the page's route, which stands before the admin's own."""
    return path("admin/live/", admin.site.admin_view(page), name="live")
