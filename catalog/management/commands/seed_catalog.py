"""Bring models and prices up to the price data of this version; an operator's own edits stay."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog import seeding
from catalog.models import Provider
from catalog.price_list import PriceListError


class Command(BaseCommand):
    """`manage.py seed_catalog [PROVIDER …]`."""

    help = "Make the models, targets and prices that the price data knows for each provider (or for those named)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("providers", nargs="*", metavar="PROVIDER", help="ids of providers; all enabled if absent")

    def handle(self, *, providers: list[str], **_options: Any) -> None:
        """Seed, and say what was made."""
        chosen = Provider.objects.exclude(source=Provider.DEMO).order_by("slug")
        chosen = chosen.filter(slug__in=providers) if providers else chosen.filter(enabled=True)
        unknown = sorted(set(providers) - {provider.slug for provider in chosen})
        if unknown:
            raise CommandError(f"There is no provider called {', '.join(unknown)}; look at Providers in the admin.")
        if not chosen:
            self.stdout.write(
                "There is no provider yet; set a vendor's key in the environment, or make one in the admin."
            )
        for provider in chosen:
            try:
                self.stdout.write(f"{provider.slug}: {seeding.attach(provider)}")
            except PriceListError as error:
                raise CommandError(str(error)) from error
