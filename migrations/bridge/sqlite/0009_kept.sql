-- What was put aside is listed by number, and ends: by age, by number, by size.
CREATE TABLE put_aside (
    id          INTEGER PRIMARY KEY,
    hash        BLOB   NOT NULL UNIQUE,              -- SHA-256 of the bytes
    event_id    TEXT,
    reason      TEXT   NOT NULL,
    sealed      BLOB   NOT NULL,
    received_at BIGINT NOT NULL
);
INSERT INTO put_aside (hash, event_id, reason, sealed, received_at)
    SELECT hash, event_id, reason, sealed, received_at FROM quarantine ORDER BY received_at;
DROP TABLE quarantine;
ALTER TABLE put_aside RENAME TO quarantine;

-- A dead letter is kept as long as what it says was to live, and then no longer.
ALTER TABLE dead_letters ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
UPDATE dead_letters SET expires_at = died_at + 2592000000;
CREATE INDEX dead_letters_expiry ON dead_letters (expires_at);
