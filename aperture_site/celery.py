"""The Celery application: background work. Nothing waits on it to serve a request."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")

app = Celery("aperture")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
