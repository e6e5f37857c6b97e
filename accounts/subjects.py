"""The subjects of a grant, and which of them a caller is. Pure.

A subject is one of `everyone`, `user:EMAIL`, `group:NAME`, `tag:LABEL` (a key's label, as `name` or `name=value`) and
`key:ID`.
"""

import re
from collections.abc import Iterable, Mapping

from django.core.exceptions import ValidationError

EVERYONE = "everyone"
FORM = re.compile(r"everyone|(?:user|group|tag|key):\S.*")


def validate(subject: str) -> None:
    """Raise ValidationError unless this is a subject."""
    if not FORM.fullmatch(subject):
        raise ValidationError(
            f"{subject!r} is not a subject: write everyone, user:EMAIL, group:NAME, tag:LABEL or key:ID."
        )


def normal(subject: str) -> str:
    """Return a subject as `of_caller` writes it: an e-mail address is the same in every case."""
    return subject.lower() if subject.startswith("user:") else subject


def of_caller(*, email: str, groups: Iterable[str], labels: Mapping[str, str], key_id: int | None) -> frozenset[str]:
    """Return every subject that this caller is; without a key it has no labels either."""
    own = {EVERYONE, normal(f"user:{email}")}
    if key_id is not None:
        own.add(f"key:{key_id}")
    own.update(f"group:{name}" for name in groups)
    for name, value in labels.items():
        own.update((f"tag:{name}", f"tag:{name}={value}"))
    return frozenset(own)
