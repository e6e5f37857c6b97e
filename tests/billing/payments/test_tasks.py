"""When tasks of payments run, and how little they say."""

import logging

from aperture_site.celery import PAYMENTS, app
from aperture_site.settings import is_no_sweep


def test_every_scheduled_task_is_one_that_a_worker_knows() -> None:
    app.loader.import_default_modules()
    assert {entry["task"] for entry in PAYMENTS.values()} <= set(app.tasks)


def test_without_keys_nothing_is_scheduled_for_payments() -> None:
    assert not set(PAYMENTS) & set(app.conf.beat_schedule)


def test_a_sweep_that_went_well_is_not_logged_and_one_that_failed_is() -> None:
    def line(level: int, name: str) -> logging.LogRecord:
        return logging.LogRecord("celery.app.trace", level, "", 0, "Task %s[1] said something", (name,), None)

    assert not is_no_sweep(line(logging.INFO, "billing.payments.sweep"))
    assert is_no_sweep(line(logging.ERROR, "billing.payments.sweep"))
    assert is_no_sweep(line(logging.INFO, "billing.payments.reconcile"))
