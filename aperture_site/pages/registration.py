"""/login, /register and what comes right after it: the first key, shown once, and a request that works when pasted.

Invariant: a key is made once for each person who registers, by the request that registered or by the first visit after
an address that had to be proved; its clear text is in one page.
"""

from typing import Any

from allauth.account.views import LoginView, SignupView
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from aperture_site.pages import api_keys, first_request, reader


class SignIn(LoginView):
    """Allauth's page, which offers registration where there is any."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Say whether anybody may register."""
        return {**super().get_context_data(**kwargs), "registration_open": settings.REGISTRATION != "closed"}


class Register(SignupView):
    """Allauth's page, which makes a key for those whom it has signed in."""

    def form_valid(self, form: Any) -> HttpResponse:
        """Register, sign in and make the key."""
        response: HttpResponse = super().form_valid(form)
        if isinstance(self.request.user, User):
            give_first_key(self.request)
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Say whether the address has to be proved first."""
        return {**super().get_context_data(**kwargs), "proves": settings.REGISTRATION == "domains"}


def give_first_key(request: HttpRequest) -> None:
    """Make the reader's first key and put it into the next page, unless the reader has had one."""
    secret = api_keys.make_first(reader.signed_in(request))
    if secret:
        api_keys.show_once(request, secret)


@require_POST
@login_required
def first_key(request: HttpRequest) -> HttpResponse:
    """Make the first key of somebody who has none."""
    give_first_key(request)
    return redirect("welcome")


@require_safe
@login_required
@never_cache
def welcome(request: HttpRequest) -> HttpResponse:
    """Show the new key with a request that uses it; without one, lead on to the overview."""
    said = list(messages.get_messages(request))
    secret = next((str(each) for each in said if api_keys.SECRET in each.tags.split()), None)
    if secret is None:
        return redirect("dashboard")
    model = first_request.model()
    context = {
        "secret": secret,
        "model": model,
        "curl": first_request.curl(secret, model),
        "base_url": first_request.base_url(),
    }
    return render(request, "pages/welcome.html", context)
