"""The SQL that makes the money's invariants the database's own.

* A transfer moves `posted` of the wallets it names, in the same statement; it is never changed or deleted.
* A hold moves `held` of its wallet when it is made, changed or deleted; one that would take `posted - held` below the
  overdraft is refused, whoever writes it.
* Nothing else moves `posted` or `held`, so a stale row that is saved cannot bring an old balance back.
* A wallet is never deleted. A change of its terms bumps `accounts.Version`, as a change of a plan does.

Only `TRUNCATE` under `SET aperture.truncating = 'on'` empties the ledger: that is how a test database is cleaned.
"""

MONEY = """
CREATE FUNCTION aperture_transfers_posted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE missing bigint;
BEGIN
    WITH moved AS (
        SELECT account, sum(amount)::bigint AS amount
          FROM (SELECT credit_id AS account, amount_nanos AS amount FROM added WHERE credit_id > 0
                UNION ALL
                SELECT debit_id, -amount_nanos FROM added WHERE debit_id > 0) AS legs
         GROUP BY account
    ), done AS (
        UPDATE billing_wallet AS wallet
           SET posted_nanos = posted_nanos + amount, funded = posted_nanos + amount > 0
          FROM moved WHERE wallet.organization_id = account
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM moved) - (SELECT count(*) FROM done) INTO missing;
    IF missing > 0 THEN
        RAISE foreign_key_violation USING MESSAGE = 'a transfer names a wallet that does not exist';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER billing_transfer_posted AFTER INSERT ON billing_transfer
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION aperture_transfers_posted();

CREATE FUNCTION aperture_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND current_setting('aperture.truncating', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE restrict_violation USING MESSAGE =
        format('%s on %s is refused: rows there are never changed; post a correction', TG_OP, TG_TABLE_NAME);
END $$;
CREATE TRIGGER billing_transfer_append_only BEFORE UPDATE OR DELETE ON billing_transfer
    FOR EACH ROW EXECUTE FUNCTION aperture_append_only();
CREATE TRIGGER billing_transfer_kept BEFORE TRUNCATE ON billing_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION aperture_append_only();
CREATE TRIGGER billing_wallet_kept BEFORE DELETE ON billing_wallet
    FOR EACH ROW EXECUTE FUNCTION aperture_append_only();

CREATE FUNCTION aperture_holds_held() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE overdrawn bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        WITH moved AS (
            SELECT organization_id, sum(amount_nanos)::bigint AS amount FROM added WHERE metered GROUP BY 1
        ), done AS (
            UPDATE billing_wallet AS wallet SET held_nanos = held_nanos + amount
              FROM moved WHERE wallet.organization_id = moved.organization_id AND amount > 0
            RETURNING posted_nanos - held_nanos + overdraft_nanos AS available, wallet.organization_id
        )
        SELECT min(organization_id) FROM done WHERE available < 0 INTO overdrawn;
    ELSIF TG_OP = 'DELETE' THEN
        UPDATE billing_wallet AS wallet SET held_nanos = held_nanos - amount
          FROM (SELECT organization_id, sum(amount_nanos)::bigint AS amount FROM removed WHERE metered GROUP BY 1)
               AS moved
         WHERE wallet.organization_id = moved.organization_id AND amount > 0;
    ELSE
        WITH moved AS (
            SELECT organization_id, sum(amount)::bigint AS amount
              FROM (SELECT organization_id, amount_nanos AS amount FROM added WHERE metered
                    UNION ALL SELECT organization_id, -amount_nanos FROM removed WHERE metered) AS both_sides
             GROUP BY 1
        ), done AS (
            UPDATE billing_wallet AS wallet SET held_nanos = held_nanos + amount
              FROM moved WHERE wallet.organization_id = moved.organization_id AND amount <> 0
            RETURNING posted_nanos - held_nanos + overdraft_nanos AS available, wallet.organization_id, amount
        )
        SELECT min(organization_id) FROM done WHERE available < 0 AND amount > 0 INTO overdrawn;
    END IF;
    IF overdrawn IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = format('a hold would overdraw the wallet of organization %s', overdrawn);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER billing_hold_added AFTER INSERT ON billing_hold
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION aperture_holds_held();
CREATE TRIGGER billing_hold_removed AFTER DELETE ON billing_hold
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION aperture_holds_held();
CREATE TRIGGER billing_hold_changed AFTER UPDATE ON billing_hold
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION aperture_holds_held();

CREATE FUNCTION aperture_balance_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- One deep is a statement of somebody's; deeper is the trigger of a transfer or a hold.
    IF pg_trigger_depth() < 2 THEN
        RAISE restrict_violation USING MESSAGE =
            format('the balance of wallet %s moves by transfers and holds only', NEW.organization_id);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_wallet_balance BEFORE UPDATE ON billing_wallet FOR EACH ROW
    WHEN (OLD.posted_nanos <> NEW.posted_nanos OR OLD.held_nanos <> NEW.held_nanos OR OLD.funded <> NEW.funded)
    EXECUTE FUNCTION aperture_balance_guard();
CREATE TRIGGER billing_wallet_opened BEFORE INSERT ON billing_wallet FOR EACH ROW
    WHEN (NEW.posted_nanos <> 0 OR NEW.held_nanos <> 0 OR NEW.funded)
    EXECUTE FUNCTION aperture_balance_guard();

CREATE CONSTRAINT TRIGGER billing_wallet_bump AFTER UPDATE ON billing_wallet
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.mode <> NEW.mode OR OLD.plan_id <> NEW.plan_id OR OLD.funded <> NEW.funded)
    EXECUTE FUNCTION aperture_bump_version('keys');
CREATE CONSTRAINT TRIGGER billing_plan_bump AFTER INSERT OR UPDATE OR DELETE ON billing_plan
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION aperture_bump_version('keys');
CREATE CONSTRAINT TRIGGER billing_spendinglimit_bump AFTER INSERT OR UPDATE OR DELETE ON billing_spendinglimit
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION aperture_bump_version('catalog');

-- Small rows that change all the time: room on the page for their next versions, and vacuum soon.
ALTER TABLE billing_wallet
    SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE billing_bucket
    SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE billing_usageday SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE billing_hold SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
"""

WITHOUT_MONEY = """
DROP FUNCTION aperture_transfers_posted() CASCADE;
DROP FUNCTION aperture_append_only() CASCADE;
DROP FUNCTION aperture_holds_held() CASCADE;
DROP FUNCTION aperture_balance_guard() CASCADE;
"""
