"""`manage.py export_config [--format json|yaml] [--output FILE]`: write the configuration as one document."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway.configuration import export, image
from gateway.configuration.document import JSON, YAML


class Command(BaseCommand):
    """Export the configuration."""

    help = "Write the configuration as one document. Secrets are redacted; imported again, they keep the stored ones."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=[JSON, YAML], default=JSON)
        parser.add_argument("--output", help="the file to write; without it, standard output")

    def handle(self, *_args: Any, **options: Any) -> None:
        text = export.text(image.load(), options["format"])
        if not options["output"]:
            self.stdout.write(text, ending="")
            return
        try:
            Path(options["output"]).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{options['output']} cannot be written: {error.strerror}.") from None
