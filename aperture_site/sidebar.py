"""The admin's sidebar: who, what, money. A person sees the pages that it may open."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

PAGES = {
    "Who": [
        ("Users", "accounts", "user", "person"),
        ("Organizations", "accounts", "organization", "domain"),
        ("Groups", "accounts", "group", "group"),
        ("API keys", "accounts", "apikey", "key"),
        ("Grants", "accounts", "grant", "verified_user"),
    ],
    "What": [
        ("Providers", "catalog", "provider", "cloud"),
        ("Models", "catalog", "model", "neurology"),
        ("Aliases", "catalog", "alias", "alternate_email"),
        ("Targets and prices", "catalog", "target", "sell"),
    ],
    "Money": [
        ("Usage", "billing", "usage", "receipt_long"),
        ("Payments", "billing", "payment", "credit_card"),
        ("Subscriptions", "billing", "subscription", "event_repeat"),
        ("Stripe events", "billing", "stripeevent", "inbox"),
    ],
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of the sidebar in Unfold's form."""
    groups = []
    for title, pages in PAGES.items():
        items = [
            {"title": name, "icon": icon, "link": reverse(f"admin:{app}_{model}_changelist")}
            for name, app, model, icon in pages
            if request.user.has_perm(f"{app}.view_{model}")
        ]
        if items:
            groups.append({"title": title, "separator": True, "items": items})
    return groups
