"""`manage.py import_config FILE [--check]`: import a configuration document, or tell what that would change."""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog import seeding
from catalog.models import Provider
from catalog.price_list import PriceListError
from gateway.configuration import document, importing
from gateway.configuration.difference import ADDED, CHANGED, DISABLED, REMOVED, Change


class Command(BaseCommand):
    """Import a configuration document."""

    help = "Import a configuration document (JSON, JSON with comments, or YAML). With an error nothing is changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the document, or - for standard input")
        parser.add_argument("--check", action="store_true", help="tell what would change, and change nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        # Macros of the document name any variable that its author chose, so the whole environment is data here.
        name = "" if options["file"] == "-" else options["file"]
        report = importing.apply(read(name), name=name, environment=os.environ, check=options["check"])
        for change in report.changes:
            for line in change.lines():
                self.stdout.write(line)
        for problem in report.problems:
            self.stderr.write(str(problem))
        counts = [
            f"{number} {action}"
            for action in (ADDED, CHANGED, DISABLED, REMOVED)
            if (number := sum(change.action == action for change in report.changes))
        ]
        difference = ", ".join(counts) or "no difference"
        if report.fatal:
            errors = sum(problem.fatal for problem in report.problems)
            raise CommandError(f"{errors} error{'s' * (errors != 1)}; nothing was changed.")
        if not report.applied:
            self.stdout.write(f"Checked: {difference}; nothing was changed.")
            return
        self.price(report.changes)
        self.stdout.write(f"Imported: {difference}.")

    def price(self, changes: list[Change]) -> None:
        """Price what changed from the price data; a price that an operator or the document gave stays."""
        slugs = {change.key[1] for change in changes if change.kind == "target"}
        slugs |= {change.key[0] for change in changes if change.kind == "provider"}
        priced = 0
        try:
            for provider in Provider.objects.filter(slug__in=slugs, enabled=True).order_by("slug"):
                priced += seeding.price_targets(provider)
        except PriceListError as error:
            self.stderr.write(f"warning: not everything was priced: {error}")
        if priced:
            self.stdout.write(f"Priced {priced} target{'s' * (priced != 1)} from the price data.")


def read(name: str) -> bytes:
    """Return the file's bytes, or standard input's; one more than are allowed, so that too many are noticed."""
    most = document.TEXT_BYTES_MAX + 1
    if not name:
        return sys.stdin.buffer.read(most)
    try:
        with Path(name).open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}.") from None
