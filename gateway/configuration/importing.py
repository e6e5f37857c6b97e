"""Apply a configuration document: the one verb of `manage.py import_config`.

Everything happens in one transaction behind one lock: two imports never mix, and a document with an error changes no
row. A second import of the same document writes nothing, so it bumps no version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from accounts import subjects
from accounts.models import Grant, User
from catalog import credentials
from catalog.models import Alias, Credential, Model, Price, Provider, Target
from gateway.configuration import difference, document, image, outcome, statement
from gateway.configuration.difference import Change
from gateway.configuration.fields import Fields
from gateway.configuration.image import Columns, Image, Key
from gateway.configuration.problem import ERROR, Problem
from gateway.configuration.statement import Statement

# Any number that nothing else of this installation locks.
LOCK = 7_267_001


@dataclass(frozen=True, slots=True)
class Report:
    """What an import found and did. A document whose data is wrong has no changes: they would be made of defaults."""

    problems: list[Problem]
    changes: list[Change]
    applied: bool

    @property
    def fatal(self) -> bool:
        """Tell whether a problem forbade the import."""
        return any(problem.fatal for problem in self.problems)


def apply(
    content: str | bytes,
    *,
    name: str = "",
    environment: Mapping[str, str],
    importer: User | None = None,
    check: bool = False,
) -> Report:
    """Import a document, or with CHECK only tell what that would change.

    NAME's extension tells the format; macros are replaced from ENVIRONMENT; IMPORTER must keep an admin role that it
    has by a grant (None: the machine's owner).
    """
    text = document.read(content, name)
    wanted = statement.of(text, environment)
    read = Fields(text.positions, environment, wanted.problems)
    if text.data is None:
        return Report(read.problems, [], False)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        before = image.load()
        after = outcome.after(before, wanted, read)
        own = subjects_of(importer) if importer else None
        if outcome.locks_out(before, after, own):
            who = importer.email if importer else "every user"
            read.note(
                ("grants",), f"would take the admin role from {who}; grant it to stay able to change this", "", ERROR
            )
        wrong = any(problem.fatal for problem in wanted.problems)
        report = Report(read.problems, [] if wrong else difference.between(before, after), False)
        if report.fatal or check:
            return report
        for change in report.changes:
            write(change, after, wanted)
    return replace(report, applied=True)


def subjects_of(user: User) -> frozenset[str]:
    """Return every subject that a user is by any of its live keys."""
    groups = list(user.aperture_groups.values_list("name", flat=True))
    found = frozenset({subjects.EVERYONE, subjects.normal(f"user:{user.email}")} | {f"group:{name}" for name in groups})
    for key in user.keys.live(timezone.now()):
        found |= subjects.of_caller(email=user.email, groups=groups, labels=key.labels, key_id=key.pk)
    return found


# --- Writing ----------------------------------------------------------------------------------------------------------
def write(change: Change, after: Image, wanted: Statement) -> None:
    """Write one change."""
    match change.kind:
        case "credential":
            write_credential(change, wanted)
        case "price":
            write_price(Target.objects.get(**target_lookup(change.key)), after["price"][change.key])
        case "alias":
            write_alias(change)
        case "provider":
            save(Provider, {"slug": change.key[0]}, change)
        case "model":
            save(Model, {"public_id": change.key[0]}, change)
        case "target":
            save(Target, target_lookup(change.key), change)
        case "grant":
            save(Grant, {} if change.before is None else {"pk": change.key[0]}, change)


def target_lookup(key: Key) -> dict[str, Any]:
    """Return the lookup of a target by its natural key."""
    return {"model__public_id": key[0], "provider__slug": key[1], "upstream_id": key[2]}


def save(model: Any, lookup: dict[str, Any], change: Change) -> None:
    """Make a row, or set the columns that differ."""
    columns = change.after or {}
    if change.before is not None:
        row = model.objects.get(**lookup)
        for name, value in columns.items():
            setattr(row, name, value)
        row.save(update_fields=list(columns))
        return
    if model is Target:
        lookup = {
            "model": Model.objects.get(public_id=change.key[0]),
            "provider": Provider.objects.get(slug=change.key[1]),
            "upstream_id": change.key[2],
        }
    model.objects.create(**lookup, **columns)


def write_price(target: Target, columns: Columns) -> None:
    """Begin a price with its tiers; what was before it ends."""
    common = {"target": target, "effective_at": timezone.now(), "source": columns["source"]}
    rates = {part: columns[part] for part in Price.PARTS}
    Price.objects.bulk_create([Price(**common, **rates), *(Price(**common, **tier) for tier in columns["tiers"])])


def write_alias(change: Change) -> None:
    """Make, move or remove an alias."""
    name = change.key[0]
    if change.after is None:
        Alias.objects.filter(name=name).delete()
    else:
        model = Model.objects.get(public_id=change.after["model"])
        Alias.objects.update_or_create(name=name, defaults={"model": model})


def write_credential(change: Change, wanted: Statement) -> None:
    """Encrypt a new secret; or only set whose the row is and whether it is in use."""
    slug, name = map(str, change.key)
    columns = change.after or {}
    if change.after is None:
        Credential.objects.filter(provider__slug=slug, name=name).delete()
    if "fingerprint" in columns or "host" in columns:
        secret = (wanted.providers or {})[slug].secrets[name]
        credentials.store(Provider.objects.get(slug=slug), secret, name=name, source=Credential.FILE)
    columns = {column: value for column, value in columns.items() if column in ("source", "enabled")}
    if columns:
        Credential.objects.filter(provider__slug=slug, name=name).update(**columns)
