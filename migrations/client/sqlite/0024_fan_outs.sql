-- Messages that were sealed pairwise, as their sender keeps them: for a day with the key, which is given again to whoever
-- could not open it, and then for as long as anybody asks how far they came.
CREATE TABLE fan_outs (
    group_id   BLOB   NOT NULL,
    client_id  BLOB   NOT NULL,
    epoch      BIGINT NOT NULL,
    roster     BLOB   NOT NULL,       -- hash of the roster of that epoch
    names      BLOB   NOT NULL,       -- of the envelopes that carry it, one after the other
    sealed     BLOB,                  -- key and ciphertext; NULL after a day
    at_ms      BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,       -- when nobody is to read it any more
    PRIMARY KEY (group_id, client_id)
);
CREATE INDEX fan_outs_by_age ON fan_outs (at_ms);

-- Devices that were in the group and did not get such a message, or could not open it.
CREATE TABLE owed_pieces (
    group_id  BLOB    NOT NULL,
    client_id BLOB    NOT NULL,
    device    BLOB    NOT NULL,
    wedged    BOOLEAN NOT NULL,       -- it could not open it; FALSE: it could not be given anything
    tries     BIGINT  NOT NULL,       -- how often it said so
    name      BLOB,                   -- the envelope in which it is given again; NULL: is to be made
    next_ms   BIGINT  NOT NULL,       -- not to be tried before
    PRIMARY KEY (group_id, client_id, device)
);
CREATE INDEX owed_pieces_due ON owed_pieces (next_ms) WHERE name IS NULL;
CREATE INDEX owed_pieces_of ON owed_pieces (device);
CREATE INDEX owed_pieces_by_name ON owed_pieces (name) WHERE name IS NOT NULL;

-- Of a fan-out to one device: its piece, and the epoch under which it was sealed, which it cannot be posted without.
ALTER TABLE outgoing ADD COLUMN piece BLOB;
ALTER TABLE outgoing ADD COLUMN epoch BIGINT;
