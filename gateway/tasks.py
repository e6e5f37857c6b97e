"""Background tasks of the gateway: nothing waits on them to serve a request."""

from celery import shared_task
from django.utils import timezone

from gateway.models import StoredResponse


@shared_task
def forget_stored_responses() -> None:
    """Delete what was kept for as long as it is kept."""
    StoredResponse.objects.filter(expires_at__lte=timezone.now()).delete()
