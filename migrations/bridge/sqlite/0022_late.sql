-- What was said in groups that share a key and have members on other servers, as it stood in the outbox: where one
-- of these has it behind an op that took somebody out, nobody there opens it, and it is sealed anew.
CREATE TABLE late (
    n           INTEGER PRIMARY KEY,
    txn         TEXT    NOT NULL UNIQUE,             -- the client id, which it keeps
    lane        TEXT    NOT NULL,
    portal      INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    author      TEXT    NOT NULL,
    who         TEXT,
    sealed      BLOB    NOT NULL,
    accepted_at BIGINT,
    expires_at  BIGINT  NOT NULL,
    ends_at     BIGINT  NOT NULL,                    -- when it is kept no longer
    message_id  BLOB    NOT NULL,                    -- as it went last
    epoch       BIGINT  NOT NULL,                    -- under which that was sealed
    anew        BIGINT  NOT NULL DEFAULT 0,          -- how often it was sealed anew
    failed      BOOLEAN NOT NULL DEFAULT FALSE       -- not all have it; it is to be looked why
);
CREATE INDEX late_of_message ON late (message_id);
CREATE INDEX late_failed ON late (n) WHERE failed = TRUE;
CREATE INDEX late_by_end ON late (ends_at);
