"""Celery's side of leaks: each task is a name for one verb. None is needed to revoke a key."""

from celery import shared_task

from accounts.leaks import aftermath


@shared_task(name="accounts.leaks.follow_up")
def follow_up() -> None:
    """Replace the keys that leaked, and tell their owners."""
    aftermath.sweep()


@shared_task(name="accounts.leaks.forget_unknown")
def forget_unknown() -> None:
    """Delete what was reported long ago and was no key of ours."""
    aftermath.forget_unknown()
