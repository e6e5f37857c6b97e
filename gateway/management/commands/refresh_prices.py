"""Fetch the newest price data now, and bring prices up to it; an operator's own prices stay."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from gateway import price_refresh


class Command(BaseCommand):
    """`manage.py refresh_prices`."""

    help = "Fetch the newest price data and begin the prices that it changed; say how many, and how many wait."

    def handle(self, **_options: Any) -> None:
        """Refresh, and say what was done; fail where something went wrong."""
        outcome = price_refresh.run(timezone.now())
        self.stdout.write(f"{outcome}.")
        if outcome.problems:
            raise CommandError("\n".join(outcome.problems))
