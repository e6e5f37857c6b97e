"""The SQL that keeps what was reported: a leak of a key of ours is never deleted, and no report is rewritten."""

KEEP = """
CREATE FUNCTION aperture_keep_leak() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'A report of a leak is neither changed nor deleted.' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER accounts_leak_not_deleted BEFORE DELETE ON accounts_leak
    FOR EACH ROW WHEN (OLD.key_id IS NOT NULL) EXECUTE FUNCTION aperture_keep_leak();
CREATE TRIGGER accounts_leak_not_rewritten BEFORE UPDATE ON accounts_leak
    FOR EACH ROW WHEN (
        (OLD.identity, OLD.key_id, OLD.display, OLD.url, OLD.source, OLD.channel, OLD.reporter_id, OLD.reported_at,
         OLD.was_live)
        IS DISTINCT FROM
        (NEW.identity, NEW.key_id, NEW.display, NEW.url, NEW.source, NEW.channel, NEW.reporter_id, NEW.reported_at,
         NEW.was_live)
    ) EXECUTE FUNCTION aperture_keep_leak();
"""

DROP_KEEP = "DROP FUNCTION aperture_keep_leak() CASCADE;"
