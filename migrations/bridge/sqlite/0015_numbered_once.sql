-- What is named by its number to the operator, who may say twice what he says: no number is given to
-- another after its row has gone.
CREATE TABLE letters (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    lane       TEXT    NOT NULL,
    txn        TEXT    NOT NULL UNIQUE,
    portal     INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    author     TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    reason     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    tried_at   BIGINT,
    died_at    BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL
);
INSERT INTO letters
    (id, lane, txn, portal, author, sealed, reason, attempts, tried_at, died_at, expires_at)
    SELECT id, lane, txn, portal, author, sealed, reason, attempts, tried_at, died_at, expires_at
    FROM dead_letters ORDER BY id;
DROP TABLE dead_letters;
ALTER TABLE letters RENAME TO dead_letters;
CREATE INDEX dead_letters_expiry ON dead_letters (expires_at);

CREATE TABLE put_aside (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    hash        BLOB   NOT NULL UNIQUE,              -- SHA-256 of the bytes
    event_id    TEXT,
    reason      TEXT   NOT NULL,
    sealed      BLOB   NOT NULL,
    received_at BIGINT NOT NULL
);
INSERT INTO put_aside (id, hash, event_id, reason, sealed, received_at)
    SELECT id, hash, event_id, reason, sealed, received_at FROM quarantine ORDER BY id;
DROP TABLE quarantine;
ALTER TABLE put_aside RENAME TO quarantine;
