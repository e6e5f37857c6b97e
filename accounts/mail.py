"""Mails to people: one address a mail, from a text template whose first line is the subject. None carries a secret."""

import logging
from collections.abc import Mapping

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.template.loader import render_to_string

from accounts.models import APIKey, Membership, User

logger = logging.getLogger(__name__)


def send(addresses: list[str], template: str, about: Mapping[str, object]) -> bool:
    """Send one mail to each address; return False if none could be sent though there was somebody to send to."""
    subject, _, body = render_to_string(template, {**about, "url": settings.PUBLIC_URL}).partition("\n")
    sent = 0
    for address in addresses:
        mail = EmailMessage(subject.strip(), body.strip() + "\n", to=[address], connection=get_connection())
        try:
            sent += mail.send()
        except Exception as error:
            # Whatever a mail server does, the other mails are sent.
            logger.warning("a mail (%s) could not be sent: %s", template, type(error).__name__)
    return bool(sent) or not addresses


def owners_of(key: APIKey) -> list[str]:
    """Return who is told of KEY: whose it is, or its organization's owners where that user is switched off or left."""
    if key.user.is_active and APIKey.objects.managed_by(key.user).filter(pk=key.pk).exists():
        return [key.user.email]
    owners = User.objects.filter(
        memberships__organization_id=key.organization_id, memberships__role=Membership.OWNER, is_active=True
    )
    return list(owners.order_by("email").values_list("email", flat=True))
