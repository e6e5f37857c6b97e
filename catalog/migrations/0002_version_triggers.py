from django.db import migrations

from accounts import triggers

TABLES = ["catalog_provider", "catalog_credential", "catalog_model", "catalog_alias", "catalog_target", "catalog_price"]


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial"), ("accounts", "0002_version_triggers")]

    operations = [
        migrations.RunSQL(triggers.create(table, "catalog"), triggers.drop(table)) for table in TABLES
    ]
