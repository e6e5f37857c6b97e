"""The SQL that keeps a price as it was written: usage rows name it as what they were priced by.

* No column of a price is ever changed. A new price begins later instead.
* A price is deleted only with its target. The check waits for the transaction's end, for a cascade deletes the prices
  before the target that they belong to.
"""

PRICES_KEPT = """
CREATE FUNCTION aperture_price_unchanged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE restrict_violation USING MESSAGE =
        format('price %s is never changed, usage names it; write a new price that begins later', OLD.id);
END $$;
CREATE TRIGGER catalog_price_unchanged BEFORE UPDATE ON catalog_price
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION aperture_price_unchanged();

CREATE FUNCTION aperture_price_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM catalog_target WHERE id = OLD.target_id) THEN
        RAISE restrict_violation USING MESSAGE =
            format('price %s is deleted only with its target %s, usage names it', OLD.id, OLD.target_id);
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER catalog_price_kept AFTER DELETE ON catalog_price
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION aperture_price_kept();
"""

PRICES_LOOSE = """
DROP FUNCTION aperture_price_unchanged() CASCADE;
DROP FUNCTION aperture_price_kept() CASCADE;
"""
