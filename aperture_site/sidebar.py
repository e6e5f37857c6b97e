"""The admin's sidebar: who, what, money. A person sees the pages that it may open."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

PAGES: dict[str, list[tuple[str, str, str, str]]] = {
    "Now": [],
    "Who": [
        ("Users", "accounts", "user", "person"),
        ("Organizations", "accounts", "organization", "domain"),
        ("Groups", "accounts", "group", "group"),
        ("API keys", "accounts", "apikey", "key"),
        ("Grants", "accounts", "grant", "verified_user"),
        ("Leaked keys", "accounts", "leak", "key_off"),
    ],
    "What": [
        ("Providers", "catalog", "provider", "cloud"),
        ("Models", "catalog", "model", "neurology"),
        ("Aliases", "catalog", "alias", "alternate_email"),
        ("Targets and prices", "catalog", "target", "sell"),
        ("Proposals", "catalog", "proposal", "tips_and_updates"),
    ],
    "Money": [
        ("Wallets", "billing", "wallet", "account_balance_wallet"),
        ("Ledger", "billing", "transfer", "menu_book"),
        ("Spending limits", "billing", "spendinglimit", "savings"),
        ("Buckets", "billing", "bucket", "water_drop"),
        ("Plans", "billing", "plan", "loyalty"),
        ("Redeem codes", "billing", "redeembatch", "redeem"),
        ("Payments", "billing", "payment", "credit_card"),
        ("Subscriptions", "billing", "subscription", "event_repeat"),
        ("Stripe events", "billing", "stripeevent", "inbox"),
        ("Limits", "billing", "limit", "speed"),
        ("Usage", "billing", "usage", "receipt_long"),
        ("Differences", "billing", "difference", "rule"),
    ],
    "Background": [
        ("Jobs", "gateway", "job", "work_history"),
        ("Runs", "gateway", "jobrun", "history"),
        ("Schedules", "django_celery_beat", "periodictask", "event"),
    ],
}

# Pages that are no list of rows: group, name, view, permission, icon.
VIEWS = [
    ("Now", "Live", "live", "billing.view_usage", "monitoring"),
    ("Money", "House accounts", "admin:billing_transfer_house", "billing.view_transfer", "account_balance"),
]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of the sidebar in Unfold's form."""
    groups = []
    for title, pages in PAGES.items():
        items = [
            {"title": name, "icon": icon, "link": reverse(f"admin:{app}_{model}_changelist")}
            for name, app, model, icon in pages
            if request.user.has_perm(f"{app}.view_{model}")
        ]
        items += [
            {"title": name, "icon": icon, "link": reverse(view)}
            for group, name, view, permission, icon in VIEWS
            if group == title and request.user.has_perm(permission)
        ]
        if items:
            groups.append({"title": title, "separator": True, "items": items})
    return groups
