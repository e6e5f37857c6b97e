"""The Celery application: background work. Nothing waits on it to serve a request.

The schedule below is the one place where our own schedules are written. `aperture_site.schedules` makes rows of it,
which an operator may change, and `aperture_site.beat` sends by the rows. `aperture_site.jobs` is what each task is.
"""

import gc
import os
import warnings
from typing import Any

from celery import Celery, signals
from celery.schedules import crontab
from django.conf import settings

from aperture_site import tether

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")

# The warning is about pickled messages, which the worker refuses from anybody.
warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")

# Told at each loss of the connection, of a setting that is made on purpose.
warnings.filterwarnings("ignore", r"\s*In Celery 5\.1 we introduced an optional breaking change")

app = Celery("aperture", task_cls="aperture_site.jobs:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["billing.payments"])
app.autodiscover_tasks(["accounts.leaks"])

# When each task runs (UTC): seconds, or a crontab.
app.conf.beat_schedule = {
    "worker heartbeat": {"task": "aperture_site.tasks.note_worker", "schedule": 15.0},
    "job history": {"task": "aperture_site.tasks.prune_job_history", "schedule": crontab(minute="15")},
    "ended sessions": {"task": "aperture_site.tasks.clear_sessions", "schedule": crontab(hour="4", minute="5")},
    "overdue holds": {"task": "billing.tasks.report_overdue_holds", "schedule": crontab(minute="*/5")},
    "usage partitions": {"task": "billing.tasks.ensure_partitions", "schedule": crontab(hour="0", minute="10")},
    "old usage": {"task": "billing.tasks.detach_old_months", "schedule": crontab(hour="3", minute="20")},
    "idempotency keys": {"task": "billing.tasks.prune_idempotency_keys", "schedule": crontab(minute="40")},
    "stored responses": {"task": "gateway.tasks.forget_stored_responses", "schedule": crontab(minute="50")},
    "usage sums": {"task": "billing.tasks.roll_up_usage", "schedule": crontab()},
    "reconcile": {"task": "billing.tasks.reconcile", "schedule": crontab(hour="2", minute="30")},
    "alerts": {"task": "billing.tasks.send_alerts", "schedule": crontab()},
    "leaked keys": {"task": "accounts.leaks.follow_up", "schedule": crontab()},
    "old false positives": {"task": "accounts.leaks.forget_unknown", "schedule": crontab(hour="4", minute="10")},
    "upstream checks": {"task": "gateway.tasks.check_upstreams", "schedule": 5.0, "options": {"expires": 10.0}},
    "old checks": {"task": "gateway.tasks.forget_checks", "schedule": crontab(minute="25")},
    "price refresh": {"task": "gateway.tasks.refresh_prices", "schedule": crontab(hour="3", minute="40")},
    "new models": {"task": "gateway.tasks.discover_models", "schedule": crontab(hour="4", minute="10")},
    "monthly credit": {"task": "billing.tasks.post_monthly_credit", "schedule": crontab(hour="0", minute="20")},
    "key expiry": {"task": "accounts.tasks.tell_of_key_expiry", "schedule": crontab(minute="5")},
    "key rotation": {"task": "accounts.tasks.rotate_old_keys", "schedule": crontab(minute="15")},
    "key tidying": {"task": "accounts.tasks.tidy_keys", "schedule": crontab(minute="25")},
}

# Only with Stripe's keys.
PAYMENTS: dict[str, Any] = {
    "payments sweep": {"task": "billing.payments.sweep", "schedule": 2.0, "options": {"expires": 10.0}},
    "payments reconcile": {"task": "billing.payments.reconcile", "schedule": crontab(hour="3", minute="17")},
}
if settings.STRIPE_SECRET_KEY:
    app.conf.beat_schedule |= PAYMENTS


@signals.worker_before_create_process.connect
def share_memory(**_arguments: object) -> None:
    """Take what is loaded out of the collector's sight, so that a new process shares it instead of copying it."""
    gc.collect()
    gc.freeze()


@signals.worker_process_init.connect
def stay_with_the_worker(**_arguments: object) -> None:
    """End a process of the pool with its worker, however that ends."""
    tether.tether(os.getppid())
