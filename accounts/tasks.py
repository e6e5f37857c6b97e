"""Background tasks of keys: each calls one verb, and may run twice, late, or on several nodes at once."""

from celery import shared_task
from django.utils import timezone

from accounts import aging, handover, notices
from accounts.models import APIKey


@shared_task
def tell_of_key_expiry() -> None:
    """Tell by mail of keys that expire soon, and of those that have."""
    notices.tell_of_expiry(timezone.now())


@shared_task
def rotate_old_keys() -> None:
    """Warn of secrets that become too old, and change those that are."""
    aging.watch(timezone.now())


@shared_task
def tidy_keys() -> None:
    """Erase new secrets that nobody fetched in time, and the copies of keys that are revoked."""
    handover.erase_expired(timezone.now())
    APIKey.objects.filter(revoked_at__isnull=False, encrypted_copy__isnull=False).update(encrypted_copy=None)
