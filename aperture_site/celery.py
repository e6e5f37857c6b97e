"""The Celery application: background work. Nothing waits on it to serve a request."""

import os
import warnings

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")

# The warning is about pickled messages, which the worker refuses from anybody.
warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")

app = Celery("aperture")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
