-- A distribution that was made for a device which could not be reached: `sealed` is what it is given before anything
-- else of this chain, once it can be.
ALTER TABLE given ADD COLUMN owed BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX given_owed ON given (group_id, device_id) WHERE owed = TRUE;
