"""Revoke keys that somebody found, and have their owners told. The keys come from standard input or a file.

Never as an argument: arguments are in the list of processes and in the shell's history.
"""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.leaks import matches, revocation
from accounts.leaks.revocation import State
from accounts.models import Leak

TEXT_BYTES_MAX = 16 * 1024 * 1024
SENTENCES = {
    State.LIVE: "revoked; a worker replaces it and tells its owner.",
    State.DEAD: "was issued here, and is not accepted any more.",
    State.UNKNOWN: "is no key of this installation.",
}


class Command(BaseCommand):
    help = "Revoke leaked API keys, read from standard input or a file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--file", type=Path, help="a text with the keys; standard input without it")
        parser.add_argument("--url", default="", help="where they were found")
        parser.add_argument("--source", default="report", help="what kind of place that is, such as commit or chat")

    def handle(self, *args: Any, **options: Any) -> None:
        """Revoke each key of the text and say what it was; raise CommandError where the text has none."""
        found = matches.in_text(self._text(options["file"]))
        if not found:
            raise CommandError(
                "The text holds no API key: one is sg- and 36 letters and digits, of which the last six are a checksum."
            )
        if len(found) > matches.MATCHES_MAX:
            raise CommandError(f"The text holds more than {matches.MATCHES_MAX} keys; split it.")
        suspects = [suspect for key in found if (suspect := revocation.suspect(key, options["url"], options["source"]))]
        for suspect, state in zip(suspects, revocation.report(suspects, Leak.COMMAND, timezone.now()), strict=True):
            self.stdout.write(f"{suspect.display} {SENTENCES[state]}")

    def _text(self, file: Path | None) -> str:
        try:
            if file is None:
                if sys.stdin.isatty():
                    self.stderr.write("Paste the keys, or a text that holds them, and end with Ctrl-D.")
                data = sys.stdin.buffer.read(TEXT_BYTES_MAX + 1)
            else:
                with file.open("rb") as stream:
                    data = stream.read(TEXT_BYTES_MAX + 1)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
        if len(data) > TEXT_BYTES_MAX:
            raise CommandError(f"The text is larger than {TEXT_BYTES_MAX} bytes; use `manage.py scan` for files.")
        return data.decode("utf-8", "replace")
