from django.db import migrations

from accounts import triggers

TABLES = ["catalog_provider", "catalog_credential", "catalog_model", "catalog_alias", "catalog_target", "catalog_price"]

# In the database, so that an import, a command, a bulk update and plain SQL drop them as the admin does. The pattern
# is `Provider.host`: scheme, host and port.
DROP_FOREIGN_CREDENTIALS = r"""
CREATE FUNCTION aperture_drop_foreign_credentials() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM catalog_credential
     WHERE provider_id = NEW.id AND host IS DISTINCT FROM lower(substring(NEW.base_url FROM '^[^/]*//[^/?#]*'));
    RETURN NULL;
END $$;
CREATE TRIGGER catalog_provider_host AFTER UPDATE OF base_url ON catalog_provider
    FOR EACH ROW EXECUTE FUNCTION aperture_drop_foreign_credentials();
"""
KEEP_FOREIGN_CREDENTIALS = """
DROP TRIGGER catalog_provider_host ON catalog_provider;
DROP FUNCTION aperture_drop_foreign_credentials();
"""


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial"), ("accounts", "0002_version_triggers")]

    operations = [
        *(migrations.RunSQL(triggers.create(table, "catalog"), triggers.drop(table)) for table in TABLES),
        migrations.RunSQL(DROP_FOREIGN_CREDENTIALS, KEEP_FOREIGN_CREDENTIALS),
    ]
