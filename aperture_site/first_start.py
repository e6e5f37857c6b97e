"""What a fresh installation gets, once: an operator's sign-in, printed and never shown again."""

import secrets
from typing import TextIO

ADMIN_EMAIL = "admin@aperture.local"


def run(stdout: TextIO, address: str) -> None:
    """Make the first operator where there is none, and print how to sign in at ADDRESS."""
    from accounts.models import User

    if User.objects.filter(is_superuser=True).exists():
        return
    password = secrets.token_urlsafe(12)
    User.objects.create_superuser(ADMIN_EMAIL, password)
    stdout.write(f"Admin sign-in (shown once): {address}/admin/  e-mail {ADMIN_EMAIL}  password {password}\n")
