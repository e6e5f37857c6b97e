"""Who may register, sign in and get a mail: what this installation decides of django-allauth's flow.

Invariants: nobody registers where registration is closed, at a domain that is not listed, or under an address that an
operator has given rights; a mail that cannot be sent is a line in the log, never a failed page; the secret of a second
factor is encrypted in the database; attempts are counted by the client's address as the trusted proxies tell it.
"""

import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.forms import SignupForm
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts import cipher, client_address
from accounts.models import Grant

logger = logging.getLogger("aperture.mail")

SECOND_FACTOR = "second factor"
# What allauth would say on the next page where the page itself shows it.
SILENT = {"account/messages/logged_in.txt", "account/messages/logged_out.txt"}
CONFIRMATION_SENT = "account/messages/email_confirmation_sent.txt"


class AccountAdapter(DefaultAccountAdapter):
    """This installation's answers to allauth's questions."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Tell whether anybody may register."""
        return bool(settings.REGISTRATION != "closed")

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the client's address behind the trusted proxies; one for all where it is unknown."""
        peer, forwarded = request.META.get("REMOTE_ADDR", ""), request.headers.get("X-Forwarded-For", "")
        return str(client_address.find(peer, forwarded, settings.TRUSTED_PROXIES) or "0.0.0.0")  # noqa: S104

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send a mail; a mail server that fails is not the reader's business."""
        try:
            super().send_mail(template_prefix, email, context)
        except Exception as error:
            logger.warning("a mail (%s) could not be sent: %s", template_prefix, type(error).__name__)

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Say what happened on the next page, but for what that page shows anyhow."""
        unsent = message_template == CONFIRMATION_SENT and not settings.EMAIL_HOST
        if message_template not in SILENT and not unsent:
            super().add_message(request, level, message_template, *args, **kwargs)


class SecondFactorAdapter(DefaultMFAAdapter):
    """Second factors, whose secrets are encrypted where they are kept."""

    def encrypt(self, text: str) -> str:
        """Return what is kept."""
        return cipher.seal(text, SECOND_FACTOR).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the secret; raise accounts.cipher.UnreadableSecret."""
        return cipher.unseal(encrypted_text.encode(), SECOND_FACTOR)


class RegistrationForm(SignupForm):
    """E-mail and password."""

    def clean_email(self) -> str:
        """Return the address; raise ValidationError for one that may not register."""
        email = str(super().clean_email()).strip().lower()
        domain = email.rpartition("@")[2]
        if settings.REGISTRATION == "domains" and domain not in settings.REGISTRATION_DOMAINS:
            raise ValidationError(
                f"Only addresses at {', '.join(settings.REGISTRATION_DOMAINS) or 'no domain yet'} can register here."
            )
        if Grant.objects.filter(subjects__contains=[f"user:{email}"]).exists():
            # Whoever typed it has not proved that it is theirs, and would get those rights.
            raise ValidationError("An operator has given this address rights; ask the operator for your account.")
        return email
