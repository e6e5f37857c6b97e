"""Django's name for this app, and the rows that every migrated database has."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from billing import partitions, plans, sandbox

        post_migrate.connect(partitions.ensure_now, sender=self, dispatch_uid="billing.partitions")
        post_migrate.connect(plans.seed, sender=self, dispatch_uid="billing.plans")
        post_migrate.connect(sandbox.seed, sender=self, dispatch_uid="billing.sandbox")
