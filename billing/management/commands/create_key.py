"""Make an API key, and its user when needed; the key alone goes to standard output, everything else to standard error.

With `--credit` and `--plan` the user's organization gets money and terms in the same transaction.

Everything is checked before anything is written.
"""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import keys, lines
from accounts.models import APIKey, User
from billing import ledger, money
from billing.models import House, Kind, Plan
from billing.money import ZERO, Money


class Command(BaseCommand):
    help = "Make an API key and print it: it is shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True, help="whose key it is; the user is made when needed")
        parser.add_argument("--name", default="default", help="how people tell this key from others")
        parser.add_argument("--models", action="append", default=[], metavar="GLOB", help="models it may call; repeats")
        parser.add_argument(
            "--scope", action="append", default=[], help="such as billing:write (docs/billing-api.md); repeats"
        )
        parser.add_argument("--expires", metavar="DATE", help="last day (2027-01-31, UTC), or an ISO time")
        parser.add_argument("--label", action="append", default=[], metavar="k=v", help="for cost; repeats")
        parser.add_argument("--credit", metavar="DOLLARS", help="give the user's organization credit, such as 5.00")
        parser.add_argument("--plan", metavar="NAME", help="put the user's organization on a plan, such as Pro")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the key; raise CommandError, with nothing changed, where an option cannot be used."""
        email = options["email"].strip().lower()
        fields = _fields(email, options)
        credit, plan = _credit(options["credit"]), _plan(options["plan"])
        with transaction.atomic():
            user = User.objects.ensure(email)
            if not user.is_active:
                raise CommandError(f"{email} is deactivated: a key would be refused. Activate the user first.")
            row, key = keys.mint(user=user, **fields)
            if plan:
                ledger.set_plan(row.organization_id, plan)
            if credit:
                ledger.credit(
                    row.organization_id, credit, Kind.CREDIT, House.PROMOTIONS, reason="manage.py create_key --credit"
                )
        self.stderr.write(f"Key {row.display} ({row.name}) of {email} is made; it is not shown again.")
        if plan or credit:
            wallet = ledger.wallet_of(row.organization_id)
            balance = money.shown(wallet.posted_nanos)
            self.stderr.write(f"{email} is on the plan {wallet.plan}, {wallet.mode}, with a balance of ${balance}.")
        self.stdout.write(key)


def _credit(text: str | None) -> Money | None:
    if text is None:
        return None
    try:
        amount = money.of_dollars(text.strip())
    except money.LossyAmount as error:
        raise CommandError(f"--credit: {error}") from None
    if amount <= ZERO:
        raise CommandError(f"--credit {text} gives nothing: write an amount above zero, such as 5.00.")
    return amount


def _plan(name: str | None) -> Plan | None:
    if name is None:
        return None
    plan = Plan.objects.filter(Q(name__iexact=name.strip()) | Q(slug=name.strip().lower())).first()
    if plan is None:
        names = ", ".join(Plan.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"--plan {name!r} is not a plan; there are: {names}.")
    return plan


def _fields(email: str, options: dict[str, Any]) -> dict[str, Any]:
    try:
        validate_email(email)
    except ValidationError:
        raise CommandError(f"--email {options['email']!r} is not an e-mail address.") from None
    try:
        labels = lines.parse_labels(options["label"])
    except ValidationError as error:
        raise CommandError(f"--label: {error.messages[0]}") from None
    expires_at = None
    if options["expires"] is not None:
        try:
            expires_at = lines.parse_expiry(options["expires"])
        except ValueError:
            raise CommandError(
                f"--expires {options['expires']!r} is not a date: write 2027-01-31 or 2027-01-31T18:00:00+00:00."
            ) from None
        if expires_at <= timezone.now():
            raise CommandError(f"--expires {options['expires']} is in the past.")
    model_globs = lines.parse_list("\n".join(options["models"]))
    if options["models"] and not model_globs:
        # A variable of a script that was not set must not make a key without bounds.
        raise CommandError("--models is empty: name a model or a glob, or leave the option out to allow all.")
    scopes = lines.parse_list("\n".join(options["scope"]))
    if options["scope"] and not scopes:
        raise CommandError("--scope is empty: name a scope, or leave the option out.")
    fields = {
        "name": options["name"].strip(),
        "model_globs": model_globs,
        "scopes": scopes,
        "labels": labels,
        "expires_at": expires_at,
    }
    try:
        APIKey(**fields).clean_fields(exclude=["organization", "user", "display", "digest", "pepper_version"])
    except ValidationError as error:
        option = {"name": "--name", "model_globs": "--models", "scopes": "--scope"}
        field, messages = next(iter(error.message_dict.items()))
        raise CommandError(f"{option.get(field, field)}: {messages[0]}") from None
    return fields
