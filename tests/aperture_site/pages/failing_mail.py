"""A mail server that is not there."""

from typing import Any

from django.core.mail.backends.base import BaseEmailBackend


class Backend(BaseEmailBackend):
    """Sends nothing."""

    def send_messages(self, email_messages: Any) -> int:
        """Raise ConnectionRefusedError."""
        raise ConnectionRefusedError
