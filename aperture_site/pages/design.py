"""/design: every component of the pages, for those who make pages; while APERTURE_DEBUG is on only."""

from datetime import date, timedelta

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from aperture_site.pages import chart, first_request
from aperture_site.pages.periods import CHART_DAYS, Sums

TONES = ("success", "info", "warning", "danger", "neutral")


class SampleForm(forms.Form):
    """One field of each kind."""

    name = forms.CharField(help_text="A text.")
    address = forms.EmailField(help_text="With an error beside it.")
    about = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
    kind = forms.ChoiceField(choices=[("one", "One"), ("two", "Two")])
    agreed = forms.BooleanField(label="A choice", required=False)


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Answer with the components; raise Http404 where this is no place of development."""
    if not settings.DEBUG:
        raise Http404
    form = SampleForm({"name": "A name", "address": "not an address", "kind": "one"})
    day = date(2026, 1, 1)
    sums = [(day + timedelta(days=n), Sums((n * 7 % 13) * 10**8, n * 7 % 13, 0)) for n in range(CHART_DAYS)]
    context = {
        "form": form,
        "tones": TONES,
        "chart": chart.draw(sums),
        "curl": first_request.curl(first_request.PLACEHOLDER, "vendor/model"),
    }
    return render(request, "pages/design.html", context)
