-- Being added is an offer: how this account came to be in a group.
-- NULL: nothing is decided; 'asked': it asked to be let in; 'offered': somebody has added it, and it
-- takes no part yet; 'taken': it takes part.
ALTER TABLE groups ADD COLUMN offer TEXT;
-- Who has added it, while it is offered.
ALTER TABLE groups ADD COLUMN offered_by TEXT;
UPDATE groups SET offer = 'taken' WHERE joined = TRUE;

-- What came in groups that are offered, unopened.
CREATE TABLE offered_rows (
    group_id   BLOB   NOT NULL,
    seq        BIGINT NOT NULL,
    envelope   BLOB   NOT NULL,       -- its id
    bytes      BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    sealed     BLOB   NOT NULL,
    PRIMARY KEY (group_id, seq, envelope)
);
CREATE INDEX offered_rows_bytes ON offered_rows (bytes);
CREATE INDEX offered_rows_expiry ON offered_rows (expires_ms);

-- What a person has set.
CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
