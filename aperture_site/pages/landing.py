"""/: what this is, for anybody, and the way in."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from aperture_site.pages import first_request


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Answer with the landing page."""
    model = first_request.model()
    context = {
        "registration_open": settings.REGISTRATION != "closed",
        "resale": settings.MODE == "resale",
        "model": model,
        "curl": first_request.curl(first_request.PLACEHOLDER, model),
        "environment": first_request.environment(),
        "base_url": first_request.base_url(),
    }
    return render(request, "pages/landing.html", context)
