"""Read the grants of a document, in both of its shapes. Pure.

The page's shape is `{src, app: {"tailscale.com/cap/aperture": [capability…]}}`, the plain one puts a capability's
keys beside `src` (or `subjects`). Each capability is one grant.
"""

from dataclasses import dataclass
from typing import Any

from accounts.models import Grant
from accounts.subjects import EVERYONE, FORM, normal
from gateway.configuration.fields import Fields
from gateway.configuration.problem import Path

CAPABILITY = "tailscale.com/cap/aperture"
CAPABILITY_KEYS = ("role", "models", "quotas", "send_hooks", "add_headers")
PLAIN_KEYS = ("src", "subjects", "name", "disabled", *CAPABILITY_KEYS)
LATER_KEYS = (
    "mcp_tools", "mcp_resources", "mcp_templates", "connectors", "enable_chat_ui", "read_metrics", "read_pricing",
    "filterable_headers", "set_cors", "cors_paths", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers", "skills", "direct_paths",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GrantStatement:
    """One grant's columns, and where it stands."""

    path: Path
    columns: dict[str, Any]


def read_grants(read: Fields, values: list[Any], path: Path) -> list[GrantStatement]:
    """Return every grant of the section."""
    found: list[GrantStatement] = []
    for here, data in read.objects(values, path):
        if "dst" in data:
            read.note((*here, "dst"), "belongs to a network's policy file; leave it out here")
        if "app" in data:
            found += read_page_grant(read, here, data)
        else:
            read.unknown_keys(data, here, (*PLAIN_KEYS, "dst"), LATER_KEYS)
            columns = read_capability(read, here, data, read_subjects(read, here, data))
            columns["name"] = read.text(data, here, "name", longest=150)
            columns["enabled"] = not read.flag(data, here, "disabled")
            found.append(GrantStatement(here, columns))
    return found


def read_page_grant(read: Fields, path: Path, data: dict[str, Any]) -> list[GrantStatement]:
    """Return a grant for each capability of an entry in the page's shape."""
    read.unknown_keys(data, path, ("src", "app", "dst"))
    subjects = read_subjects(read, path, data)
    app, here = read.mapping(data, path, "app"), (*path, "app")
    found = []
    for key in app:
        if key != CAPABILITY:
            read.warn((*here, key), "is not a capability of this gateway; left alone")
    for place, capability in read.objects(read.items(app, here, CAPABILITY), (*here, CAPABILITY)):
        read.unknown_keys(capability, place, CAPABILITY_KEYS, LATER_KEYS)
        columns = read_capability(read, place, capability, subjects)
        found.append(GrantStatement(place, columns | {"name": "", "enabled": True}))
    return found


def read_subjects(read: Fields, path: Path, data: dict[str, Any]) -> list[str]:
    """Return the subjects of an entry, sorted, each once."""
    if "src" in data and "subjects" in data:
        read.note(path, "has both src and subjects; write one of them")
    key = "subjects" if "subjects" in data else "src"
    if key not in data:
        read.note(path, "names no src: write whom it is for")
    found: set[str] = set()
    for place, text in read.texts(read.items(data, path, key), (*path, key), longest=250):
        subject = subject_of(text)
        if text == "(loopback)" or text.startswith("autogroup:"):
            read.warn(place, "names a network's own group, which this gateway does not know; left out", text)
        elif subject is None:
            read.note(place, "must be *, an e-mail address, group:NAME, tag:LABEL or key:ID", text)
        else:
            found.add(subject)
    if key in data and not found:
        read.warn((*path, key), "names nobody, so this grant does nothing")
    return sorted(found)


def subject_of(text: str) -> str | None:
    """Return the subject that a `src` value means, or None."""
    if text in ("*", EVERYONE):
        return EVERYONE
    if FORM.fullmatch(text):
        return normal(text)
    name, _, domain = text.partition("@")
    return normal(f"user:{text}") if name and domain and not any(map(str.isspace, text)) else None


def read_capability(read: Fields, path: Path, data: dict[str, Any], subjects: list[str]) -> dict[str, Any]:
    """Return the columns of a grant, its name apart."""
    models = data.get("models", [])
    globs = (
        read.texts([models], (*path, "models"))
        if isinstance(models, str)
        else read.texts(read.items(data, path, "models"), (*path, "models"))
    )
    quotas = []
    for index, entry in enumerate(read.items(data, path, "quotas")):
        here = (*path, "quotas", index)
        bucket = entry.get("bucket") if isinstance(entry, dict) else entry
        name = read.checked_text(bucket, here, longest=150)
        if name and name not in quotas:
            quotas.append(name)
    hooks = [
        read.plain(entry, place)
        for place, entry in read.objects(read.items(data, path, "send_hooks"), (*path, "send_hooks"))
    ]
    if hooks:
        read.warn((*path, "send_hooks"), "hooks are not called by this version; they are kept")
    return {
        "subjects": subjects,
        "role": read.choice(data, path, "role", [role for role, _ in Grant.ROLES if role], ""),
        "model_globs": [text for _, text in globs],
        "quotas": quotas,
        "hooks": hooks,
        "add_headers": read.headers(data, path, "add_headers"),
    }
