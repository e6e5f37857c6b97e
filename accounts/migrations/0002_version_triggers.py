from django.db import migrations

from accounts import triggers

# A key's last use changes all the time and decides nothing, so it bumps nothing.
KEY_COLUMNS = (
    "organization_id, user_id, digest, labels, scopes, model_globs, ip_allowlist, expires_at, revoked_at"
)
TABLES = [
    ("accounts_apikey", "keys", f"UPDATE OF {KEY_COLUMNS} OR DELETE"),
    ("accounts_user", "keys", "UPDATE OF email, is_active OR DELETE"),
    ("accounts_organization", "keys", "UPDATE OF is_active OR DELETE"),
    ("accounts_membership", "keys", "INSERT OR UPDATE OR DELETE"),
    ("accounts_group", "keys", "UPDATE OR DELETE"),
    ("accounts_group_members", "keys", "INSERT OR UPDATE OR DELETE"),
    ("accounts_grant", "catalog", "INSERT OR UPDATE OR DELETE"),
]


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.RunSQL(triggers.FUNCTION, triggers.DROP_FUNCTION),
        *(migrations.RunSQL(triggers.create(*table), triggers.drop(table[0])) for table in TABLES),
    ]
