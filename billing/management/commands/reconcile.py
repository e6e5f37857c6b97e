"""Compare every two records of the same money; the exit status is 1 when something differs."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from billing import reconcile


class Command(BaseCommand):
    help = "Check the books: every difference is printed, listed in the admin, and makes the exit status 1."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", metavar="DATE", help="only what moved since then: 2026-11-01 (UTC), or an ISO time; faster"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what was found; raise CommandError when anything differs."""
        since = _moment(options["since"]) if options["since"] is not None else None
        try:
            found = reconcile.run(timezone.now(), since)
        except reconcile.AlreadyRunning as error:
            raise CommandError(str(error)) from None
        for each in found:
            mark = "information" if each.information else "DIFFERENCE"
            self.stdout.write(f"{mark}: {each.name}: {each.subject}: {each.detail}")
        count = sum(not each.information for each in found)
        if count:
            raise CommandError(f"{count} differences; see docs/money.md on what to do about each check.")
        self.stdout.write("The books agree.")


def _moment(text: str) -> Any:
    try:
        moment = parse_datetime(text)
        if moment is None and (day := parse_date(text)):
            moment = parse_datetime(f"{day.isoformat()}T00:00:00+00:00")
    except ValueError:
        moment = None
    if moment is None:
        raise CommandError(f"--since {text!r} is not a date: write 2026-11-01 or 2026-11-01T18:00:00+00:00.")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
