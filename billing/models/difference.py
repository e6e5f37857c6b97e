"""Differences: what `reconcile` found between two records of the same money, until it is found no more.

A row is one subject of one check. It is seen again and again while it lasts, resolved when a full run no longer finds
it, and opened anew if it comes back. Nothing here moves money: whoever reads it posts the correction.
"""

from django.db import models


class Difference(models.Model):
    """One thing that does not add up, or, if only `information`, that an operator should know."""

    name = models.CharField("check", max_length=64)
    subject = models.CharField(max_length=400)
    detail = models.TextField()
    information = models.BooleanField(default=False, help_text="Worth knowing, and no fault.")
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "subject"], name="difference_once")]

    def __str__(self) -> str:
        return f"{self.name}: {self.subject}"
