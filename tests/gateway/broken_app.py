"""The gateway's own application with one bug put in: `GET /v1/targets` raises what nobody expects."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")
django.setup()

from gateway import asgi  # noqa: E402

application, lifecycle = asgi.application, asgi.lifecycle


async def broken(*_arguments: object) -> None:
    """Fail with a secret in the exception's text."""
    raise ZeroDivisionError("the secret is sk-inside-an-exception")


asgi.ROUTES["/targets"] = {"GET": broken}
