"""Which spending limits bind a caller, and which buckets of theirs its requests are held in. Pure.

A limit binds whom it names itself (its subject), and whom a grant names that names it. A limit that cannot be read,
or that a grant names and nobody defined, fails closed: whoever it binds is refused. One that is switched off binds
nobody.
"""

from collections.abc import Iterable, Mapping

import msgspec

from accounts import subjects
from billing import spending
from billing.holds import BucketKey

NO_BUCKETS: tuple[BucketKey, ...] = ()


class SpendingLimit(msgspec.Struct, frozen=True):
    """A definition, as far as it decides whom it binds; `problem` is what is wrong with it."""

    id: int
    name: str
    subject: str = ""
    enabled: bool = True
    problem: str = ""

    def bucket(self, user_id: int) -> BucketKey:
        """Return the bucket that a user's requests are held in."""
        return self.id, spending.bucket_subject(self.name, user_id)


class SpendingLimits(msgspec.Struct, frozen=True):
    """All definitions by name, and those that name their subject by that."""

    by_name: Mapping[str, SpendingLimit] = {}
    by_subject: Mapping[str, tuple[SpendingLimit, ...]] = {}


NO_LIMITS = SpendingLimits()


class Binding(msgspec.Struct, frozen=True):
    """A caller's buckets; or in `problem`, why all its requests are refused."""

    buckets: tuple[BucketKey, ...] = NO_BUCKETS
    problem: str = ""


UNBOUND = Binding()


def limit_of(row: Mapping[str, object]) -> SpendingLimit:
    """Return the limit of a row of the table."""
    name, subject = str(row["name"]), str(row["subject"])
    return SpendingLimit(
        id=int(str(row["id"])),
        name=name,
        subject=subjects.normal(subject),
        enabled=bool(row["enabled"]),
        problem=spending.problem(name, subject),
    )


def gather(limits: Iterable[SpendingLimit]) -> SpendingLimits:
    """Index the definitions. One whose subject cannot be read binds everyone: whom it was meant for is not known."""
    by_name: dict[str, SpendingLimit] = {}
    by_subject: dict[str, tuple[SpendingLimit, ...]] = {}
    for limit in limits:
        by_name[limit.name] = limit
        if limit.enabled and limit.subject:
            known = spending.SUBJECT.fullmatch(limit.subject)
            subject = limit.subject if known else subjects.EVERYONE
            by_subject[subject] = (*by_subject.get(subject, ()), limit)
    return SpendingLimits(by_name, by_subject)


def bind(limits: SpendingLimits, names: Iterable[str], own: Iterable[str], user_id: int) -> Binding:
    """Return what binds a caller: the limits that its grants name (NAMES), and those of its OWN subjects."""
    found: dict[int, SpendingLimit] = {}
    for name in names:
        limit = limits.by_name.get(name)
        if limit is None:
            return Binding(
                problem=f"The spending limit {name!r} is granted but not defined, so nothing may be spent; "
                "the operator defines it or takes it out of the grant."
            )
        if limit.enabled:
            found[limit.id] = limit
    for subject in own:
        found |= {limit.id: limit for limit in limits.by_subject.get(subject, ())}
    for limit in found.values():
        if limit.problem:
            return Binding(
                problem=f"The spending limit {limit.name!r} {limit.problem}, so nothing may be spent; "
                "the operator corrects it."
            )
    if not found:
        return UNBOUND
    return Binding(tuple(found[limit_id].bucket(user_id) for limit_id in sorted(found)))
