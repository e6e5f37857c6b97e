"""Find this installation's keys in folders and files, and with `--report` revoke them; no key is ever printed.

The exit status is 1 where one was found that is accepted, or was until it was reported, so that it can guard a
pipeline; 0 where none was.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import keys
from accounts.leaks import revocation, scanning
from accounts.leaks.revocation import State
from accounts.leaks.scanning import Bounds, Counts, Found
from accounts.models import APIKey, Leak

# How many keys are looked up at once.
BATCH = 500
MEBIBYTE = 1024 * 1024


class Command(BaseCommand):
    help = "Find this installation's API keys in folders and files."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a folder or a file")
        parser.add_argument(
            "--report", action="store_true", help="revoke the keys that are found, and tell their owners"
        )
        parser.add_argument("--history", action="store_true", help="also look into everything that git keeps")
        parser.add_argument("--binary", action="store_true", help="also look into binary files")
        parser.add_argument("--max-mb", type=int, default=100, help="leave larger files out (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what is found, a line each; raise CommandError for a path that is not there."""
        for path in options["paths"]:
            if not path.exists():
                raise CommandError(f"{path} does not exist; name a folder or a file.")
        bounds = Bounds(options["max_mb"] * MEBIBYTE, options["binary"], options["history"])
        counts = Counts()
        found = (each for path in options["paths"] for each in scanning.walk(path, bounds, counts))
        states: dict[State, int] = dict.fromkeys(State, 0)
        for batch in _batches(found):
            for line, state in _judged(batch, report=options["report"]):
                states[state] += 1
                self.stdout.write(line)
        self._sum_up(counts, states, reported=options["report"])
        if states[State.LIVE]:
            raise SystemExit(1)

    def _sum_up(self, counts: Counts, states: dict[State, int], *, reported: bool) -> None:
        done = "live until now and revoked" if reported else "live"
        self.stderr.write(
            f"{counts.files} files, {counts.bytes / MEBIBYTE:.1f} MiB: {states[State.LIVE]} keys {done}, "
            f"{states[State.DEAD]} dead, {states[State.UNKNOWN]} of other installations. "
            f"Left out: {counts.binary} binary, {counts.too_large} too large, {len(counts.unreadable)} unreadable."
        )
        for path in counts.unreadable[:10]:
            self.stderr.write(f"not read: {path}")


def _batches(found: Iterator[Found]) -> Iterator[list[Found]]:
    while batch := list(islice(found, BATCH)):
        yield batch


def _judged(batch: Iterable[Found], *, report: bool) -> Iterator[tuple[str, State]]:
    """Yield a line for people and the state of each; revoke them with REPORT."""
    pairs = [(each, revocation.suspect(each.token, f"{each.file}:{each.line}", "scan")) for each in batch]
    known = [(each, suspect) for each, suspect in pairs if suspect is not None]
    suspects = [suspect for _, suspect in known]
    now = timezone.now()
    owned = revocation.look_up(suspects, now)
    if report:
        revocation.report(suspects, Leak.SCAN, now, keep_unknown=False)
    rows = APIKey.objects.select_related("user").in_bulk([each.key_id for each in owned if each])
    for (each, _), whose in zip(known, owned, strict=True):
        state = revocation.state(whose)
        of = f", {rows[whose.key_id].name} of {rows[whose.key_id].user}" if whose else ""
        yield f"{each.file}:{each.line}: {keys.mask(each.token)} {state.value}{of}", state
