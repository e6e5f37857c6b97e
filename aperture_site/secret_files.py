"""The installation's secrets: from the environment, or made once as files with mode 0600 in the data folder.

Invariant: a secret that exists is never overwritten. Two processes that start at once end up with the same one, for
the file appears whole or not at all.
"""

import base64
import os
import secrets
from pathlib import Path

from aperture_site import env


def value(name: str, data_dir: Path) -> str:
    """Return the one secret called NAME (an environment variable, else `secrets/<name>` in the data folder)."""
    return values(name, data_dir)[0]


def values(name: str, data_dir: Path) -> list[str]:
    """Return a secret's versions, newest first: comma-separated in the environment, one to a line in the file."""
    given = env.words(name)
    if given:
        return given
    path = data_dir / "secrets" / name.removeprefix("APERTURE_").lower()
    try:
        if not path.exists():
            _create(path)
        lines = path.read_text(encoding="ascii").split()
    except PermissionError:
        raise env.SettingError(
            name, "", f"{path} is another user's; start as the one that owns {data_dir}, or set APERTURE_DATA_DIR"
        ) from None
    if not lines:
        raise env.SettingError(
            name, "", f"{path} is empty; restore it from a backup, or delete it to lose what it protects"
        )
    return lines


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() + "\n")
        file.flush()
        # Before anything is encrypted with it: a power cut must not leave an empty file.
        os.fsync(file.fileno())
    try:
        # A link never replaces: the first of two starters wins, and the other reads what it wrote.
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
