"""/settings/api-keys: make, reset, revoke, and fetch a secret that waits.

A secret in clear text is in one page: a message in a cookie of the browser that asked carries it there, and no row
does. Keys that the reader does not manage are 404; what may be done to a key is `accounts.rotation`'s to say.
"""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import handover, keys, rotation
from accounts.lines import ListField, NetworksField
from accounts.models import APIKey, User
from aperture_site.pages import first_request, reader
from billing.api.keys import LIVE_KEYS_MAX, note

# A message with this tag is a secret, which the next page shows with a button to copy it.
SECRET = "secret"  # noqa: S105
SHOWN_MAX = 300
EXPIRES_SOON = timedelta(days=7)
OVERLAPS = [(0, "at once"), (3600, "in an hour"), (86_400, "in a day"), (rotation.OVERLAP_S_MAX, "in a week")]
LIFETIMES = [("", "never"), ("7", "in 7 days"), ("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year")]


class NewKeyForm(forms.Form):
    """A key's name and bounds."""

    name = forms.CharField(
        max_length=150,
        help_text="What uses it, such as “laptop” or “nightly job”.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autofocus": True}),
    )
    model_globs = ListField(
        label="Models",
        required=False,
        rows=3,
        help_text="One to a line, such as anthropic/* or openai/gpt-5-mini. Empty: all that you may call.",
    )
    ip_allowlist = NetworksField(
        label="Addresses", required=False, rows=2, help_text="One to a line, such as 203.0.113.0/24. Empty: any."
    )
    expires = forms.ChoiceField(label="Expires", choices=LIFETIMES, required=False)

    def expires_at(self, now: datetime) -> datetime | None:
        """Return when the key ends, or None."""
        days = self.cleaned_data["expires"]
        return now + timedelta(days=int(days)) if days else None


class ResetForm(forms.Form):
    """How long the present secret is still accepted, and which one it is."""

    overlap_s = forms.TypedChoiceField(
        label="The present secret stops working",
        coerce=int,
        choices=OVERLAPS,
        initial=0,
        help_text="After a leak: at once. Otherwise choose the time that you need to change your programs.",
    )
    display = forms.CharField(widget=forms.HiddenInput, max_length=16)


@require_safe
@login_required
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """Answer with the reader's keys: those that are accepted first, the newest first."""
    who = reader.of(request)
    everything = "all" in request.GET
    now = timezone.now()
    found = APIKey.objects.managed_by(who.user).filter(organization=who.organization)
    ended = found.count() - found.live(now).count()
    shown = (found if everything else found.live(now)).select_related("user").prefetch_related("retired")
    rows: list[Any] = list(shown.order_by("-pk")[:SHOWN_MAX])
    waiting = handover.waiting_until([key.pk for key in rows])
    for key in rows:
        key.shown_state, key.tone = state_of(key, now)
        key.former = key.accepted_former(now)
        key.waits_until = waiting.get(key.pk)
        key.is_dead = key.state(now) not in ("live", "rotating")
    rows.sort(key=lambda key: key.is_dead)
    return render(
        request,
        "pages/api_keys.html",
        {"reader": who, "keys": rows, "ended": ended, "everything": everything, "base_url": first_request.base_url()},
    )


def state_of(key: APIKey, now: datetime) -> tuple[str, str]:
    """Return a key's state in words, and the tone of its badge."""
    state = key.state(now)
    if state in ("revoked", "leaked"):
        return state, "danger"
    if state == "expired":
        return state, "neutral"
    if not key.user.is_active:
        return "owner off", "warning"
    if state == "live" and key.expires_at and key.expires_at <= now + EXPIRES_SOON:
        return "expires soon", "warning"
    return ("rotating", "info") if state == "rotating" else ("active", "success")


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def new(request: HttpRequest) -> HttpResponse:
    """Ask for a new key's name and bounds, and make it."""
    who = reader.of(request)
    form = NewKeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        now = timezone.now()
        try:
            secret = make(who, form, now)
        except ValidationError as refusal:
            form.add_error(None, refusal)
        else:
            show_once(request, secret)
            return back(who)
    status = 200 if request.method != "POST" else 422
    return render(request, "pages/new_key.html", {"reader": who, "form": form}, status=status)


def make(who: reader.Reader, form: NewKeyForm, now: datetime) -> str:
    """Make the key that a form describes and return its clear text; raise ValidationError for one too many."""
    if APIKey.objects.live(now).filter(user=who.user).count() >= LIVE_KEYS_MAX:
        raise ValidationError(f"You have {LIVE_KEYS_MAX} live keys; revoke one first.")
    row = APIKey(
        organization=who.organization,
        user=who.user,
        name=form.cleaned_data["name"],
        model_globs=form.cleaned_data["model_globs"],
        ip_allowlist=form.cleaned_data["ip_allowlist"],
        expires_at=form.expires_at(now),
    )
    with transaction.atomic():
        secret = keys.issue(row)
        note(who.user, row, ADDITION, "Made on the page of keys.")
    return secret


def make_first(user: User) -> str | None:
    """Make a user's first key and return its clear text; None for somebody who has one, of whatever state."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if APIKey.objects.filter(user=user).exists():
            return None
        row, secret = keys.mint(user=user)
        note(user, row, ADDITION, "Made at registration.")
    return secret


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def reset(request: HttpRequest, key_id: int) -> HttpResponse:
    """Say what a reset will break, ask how long the present secret lives on, and reset the key."""
    who, key = one(request, key_id)
    form = ResetForm(request.POST or None, initial={"display": key.display})
    if request.method == "POST" and form.is_valid():
        try:
            show_once(request, reset_now(who, key, form))
        except rotation.NotReset as refusal:
            messages.error(request, str(refusal))
        return back(who)
    context = {"reader": who, "key": key, "form": form, "uses": uses(key)}
    return render(request, "pages/reset_key.html", context)


def reset_now(who: reader.Reader, key: APIKey, form: ResetForm) -> str:
    """Give a key another secret and return it; raise rotation.NotReset."""
    before, overlap_s = key.display, form.cleaned_data["overlap_s"]
    if form.cleaned_data["display"] != before:
        raise rotation.AlreadyReset(f"{key.name} is {before} by now: it was reset since you looked.")
    with transaction.atomic():
        secret = rotation.reset(key, overlap_s=overlap_s)
        after = f" after {overlap_s} s" if overlap_s else ""
        note(who.user, key, CHANGE, f"Reset on the page of keys: {before} is refused{after}.")
    return secret


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def revoke(request: HttpRequest, key_id: int) -> HttpResponse:
    """Say what it will break, and revoke the key for good."""
    who, key = one(request, key_id)
    if request.method != "POST":
        return render(request, "pages/revoke_key.html", {"reader": who, "key": key, "uses": uses(key)})
    if key.revoked_at is None:
        with transaction.atomic():
            key.revoke(timezone.now())
            note(who.user, key, CHANGE, "Revoked on the page of keys.")
    messages.success(request, f"“{key.name}” is revoked: it is refused everywhere.")
    return back(who)


@require_POST
@login_required
def end_overlap(request: HttpRequest, key_id: int) -> HttpResponse:
    """Refuse a key's former secret from now on."""
    who, key = one(request, key_id)
    if rotation.end_overlap(key):
        note(who.user, key, CHANGE, "Ended the overlap on the page of keys.")
    messages.success(request, f"Only the present secret of “{key.name}” is accepted now.")
    return back(who)


@require_POST
@login_required
def collect(request: HttpRequest, key_id: int) -> HttpResponse:
    """Fetch the secret that waits, once."""
    who, key = one(request, key_id)
    secret = handover.collect(who.user, key)
    if secret is None:
        messages.error(request, f"No secret waits for “{key.name}”: it was fetched, or its time is over. Reset it.")
    else:
        note(who.user, key, CHANGE, "Fetched the new secret on the page of keys.")
        show_once(request, secret)
    return back(who)


def uses(key: APIKey) -> list[str]:
    """Return which programs have used a key in the last seven days: what stops working with its secret."""
    # The admin's pages are registered when they are imported, which Django has done by now.
    from billing.admin.key import lately

    return [line for line in lately(key).splitlines() if line != "nobody"]


def one(request: HttpRequest, key_id: int) -> tuple[reader.Reader, APIKey]:
    """Return a key that the reader manages; raise Http404."""
    who = reader.of(request)
    found: Any = APIKey.objects.managed_by(who.user).filter(organization=who.organization)
    key: APIKey | None = found.prefetch_related("retired").filter(pk=key_id).first() if key_id < 2**63 else None
    if key is None:
        raise Http404("You have no such key.")
    return who, key


def show_once(request: HttpRequest, secret: str) -> None:
    """Put a secret into the next page that this browser sees."""
    messages.warning(request, secret, extra_tags=SECRET)


def back(who: reader.Reader) -> HttpResponse:
    """Return to the list."""
    return redirect(reverse("api_keys") + who.query)
