"""The Celery application: background work. Nothing waits on it to serve a request."""

import os
import warnings
from typing import Any

from celery import Celery
from celery.schedules import crontab
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")

# The warning is about pickled messages, which the worker refuses from anybody.
warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")

app = Celery("aperture")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["billing.payments"])

# When each task runs (UTC). Every node's beat sends them: the tasks bear running twice.
app.conf.beat_schedule = {
    "usage partitions": {"task": "billing.tasks.ensure_partitions", "schedule": crontab(hour="0", minute="10")},
    "old usage": {"task": "billing.tasks.detach_old_months", "schedule": crontab(hour="3", minute="20")},
    "idempotency keys": {"task": "billing.tasks.prune_idempotency_keys", "schedule": crontab(minute="40")},
    "stored responses": {"task": "gateway.tasks.forget_stored_responses", "schedule": crontab(minute="50")},
    "reconcile": {"task": "billing.tasks.reconcile", "schedule": crontab(hour="2", minute="30")},
    "alerts": {"task": "billing.tasks.send_alerts", "schedule": crontab()},
    "upstream checks": {"task": "gateway.tasks.check_upstreams", "schedule": 5.0, "options": {"expires": 10.0}},
    "old checks": {"task": "gateway.tasks.forget_checks", "schedule": crontab(minute="25")},
    "new models": {"task": "gateway.tasks.discover_models", "schedule": crontab(hour="4", minute="10")},
    "monthly credit": {"task": "billing.tasks.post_monthly_credit", "schedule": crontab(hour="0", minute="20")},
}

# Only with Stripe's keys.
PAYMENTS: dict[str, Any] = {
    "payments sweep": {"task": "billing.payments.sweep", "schedule": 2.0, "options": {"expires": 10.0}},
    "payments reconcile": {"task": "billing.payments.reconcile", "schedule": crontab(hour="3", minute="17")},
}
if settings.STRIPE_SECRET_KEY:
    app.conf.beat_schedule |= PAYMENTS
