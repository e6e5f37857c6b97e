"""What a caller asked to be kept, and nothing else: the only prompts and answers at rest here.

Invariants: the content is encrypted and bound to its organization and id (`accounts.cipher`); nobody outside the
organization finds it; it ends with its retention, or when it is deleted.
"""

from django.db import models
from django.utils import timezone

from accounts.models import Organization


class StoredResponse(models.Model):
    """One answer of the Responses API and what was asked; `gateway.stored_responses` reads and writes it."""

    QUEUED, IN_PROGRESS, COMPLETED, INCOMPLETE = "queued", "in_progress", "completed", "incomplete"
    CANCELLED, FAILED = "cancelled", "failed"
    RUNNING = (QUEUED, IN_PROGRESS)

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="stored_responses")
    response_id = models.CharField(max_length=128)
    previous_id = models.CharField(max_length=128, blank=True)
    status = models.CharField(max_length=16)
    encrypted = models.BinaryField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)
    # Until when somebody works on it; null where nobody has to.
    lease_until = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "response_id"], name="stored_response_id_once"),
        ]

    def __str__(self) -> str:
        return self.response_id
