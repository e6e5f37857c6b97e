"""The SQL of the triggers that bump `Version`: deferred to the commit, and once for each transaction.

Deferred, so that the version row is locked for an instant only and nobody reads a new version before the change it
speaks of; once, so that an import of thousands of rows writes it a single time. A version row that was lost (all
tables truncated) is made again.
"""

FUNCTION = """
CREATE OR REPLACE FUNCTION aperture_bump_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    mark text := 'aperture.bumped_' || TG_ARGV[0];
    this text := pg_current_xact_id()::text;
BEGIN
    IF current_setting(mark, true) IS DISTINCT FROM this THEN
        PERFORM set_config(mark, this, true);
        IF TG_ARGV[0] = 'catalog' THEN
            INSERT INTO accounts_version AS version (id, catalog, keys) VALUES (1, 1, 0)
                ON CONFLICT (id) DO UPDATE SET catalog = version.catalog + 1, changed_at = clock_timestamp();
        ELSE
            INSERT INTO accounts_version AS version (id, catalog, keys) VALUES (1, 0, 1)
                ON CONFLICT (id) DO UPDATE SET keys = version.keys + 1, changed_at = clock_timestamp();
        END IF;
        PERFORM pg_notify('aperture_version', TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION aperture_bump_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO accounts_version AS version (id, catalog, keys) VALUES (1, 1, 1)
        ON CONFLICT (id) DO UPDATE
            SET catalog = version.catalog + 1, keys = version.keys + 1, changed_at = clock_timestamp();
    PERFORM pg_notify('aperture_version', 'truncate');
    RETURN NULL;
END $$;

INSERT INTO accounts_version (id, catalog, keys) VALUES (1, 0, 0) ON CONFLICT DO NOTHING;
"""

DROP_FUNCTION = "DROP FUNCTION aperture_bump_version() CASCADE; DROP FUNCTION aperture_bump_truncated() CASCADE;"


def create(table: str, part: str, events: str = "INSERT OR UPDATE OR DELETE") -> str:
    """Return the SQL that makes EVENTS on TABLE bump PART (`catalog` or `keys`)."""
    return f"""
CREATE CONSTRAINT TRIGGER {table}_bump AFTER {events} ON {table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION aperture_bump_version('{part}');
CREATE TRIGGER {table}_bump_truncated AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION aperture_bump_truncated();
"""


def drop(table: str) -> str:
    """Return the SQL that undoes `create`."""
    return f"DROP TRIGGER {table}_bump ON {table}; DROP TRIGGER {table}_bump_truncated ON {table};"
