"""What a caller asked to be kept, the only prompts and answers at rest here; and how the jobs of the background went.

Invariants: the content is encrypted and bound to its organization and id (`accounts.cipher`); nobody outside the
organization finds it; it ends with its retention, or when it is deleted.
A job's rows hold no argument and no content.
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


class Job(models.Model):
    """One task of the background, and how its last run went; `aperture_site.jobs` and beat write it."""

    OK, FAILED, SKIPPED, TIMED_OUT = "ok", "failed", "skipped", "timed out"
    OUTCOMES = [(word, word) for word in (OK, FAILED, SKIPPED, TIMED_OUT)]

    task = models.CharField(max_length=200, unique=True)
    # Its name in the schedule, what it does in a sentence, and the schedule as it was shipped; empty where it has none.
    name = models.CharField(max_length=200, blank=True)
    about = models.CharField(max_length=300, blank=True)
    shipped = models.CharField(max_length=400, blank=True)
    # Beat's: when it was last put in the queue, and when it will be next; null while it is disabled.
    sent_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    # Set while it runs: since when, until when it may.
    running_since = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(null=True)
    last_started_at = models.DateTimeField(null=True)
    last_finished_at = models.DateTimeField(null=True)
    last_outcome = models.CharField(max_length=16, blank=True, choices=OUTCOMES)
    last_error = models.CharField(max_length=400, blank=True)
    runs = models.BigIntegerField(default=0)
    failures = models.BigIntegerField(default=0)

    class Meta:
        ordering = ("name", "task")
        permissions = [("run_job", "Can run a job now")]

    def __str__(self) -> str:
        return self.name or self.task


class JobRun(models.Model):
    """One run of a task that is worth a row, or several alike in a row; nothing of what it worked on."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="history")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    outcome = models.CharField(max_length=16, choices=Job.OUTCOMES)
    error = models.CharField(max_length=400, blank=True)
    # Which machine and process.
    node = models.CharField(max_length=200)
    by_hand = models.BooleanField(default=False)
    # How many runs in a row, alike, this row stands for.
    repeats = models.IntegerField(default=1)

    class Meta:
        indexes = [models.Index(fields=["job", "-id"], name="gateway_jobrun_newest")]

    def __str__(self) -> str:
        return f"{self.job_id} {self.started_at:%Y-%m-%d %H:%M:%S}"


class Heartbeat(models.Model):
    """When a machine's worker or beat was last seen."""

    WORKER, BEAT = "worker", "beat"

    kind = models.CharField(max_length=16)
    node = models.CharField(max_length=200)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "node"], name="heartbeat_once_a_node")]

    def __str__(self) -> str:
        return f"{self.kind} {self.node}"
