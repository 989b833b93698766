-- Calls: one runs in a group at most; those that ended are kept for 30 days. The row is all that is known.
CREATE TABLE calls (
    number       INTEGER NOT NULL PRIMARY KEY, -- one of `numbers`
    grp          BIGINT  NOT NULL REFERENCES groups (grp),
    call_id      BLOB    NOT NULL,             -- as its starter drew it
    ended_ms     BIGINT,                       -- none: it runs
    due_ms       BIGINT,                       -- when something is due that nobody does
    participants BIGINT  NOT NULL,
    state        TEXT    NOT NULL              -- JSON: what carries it, who is in it, and who was
);
CREATE UNIQUE INDEX calls_by_id ON calls (call_id, grp);
CREATE INDEX calls_by_group ON calls (grp, number);
CREATE UNIQUE INDEX calls_of_group ON calls (grp) WHERE ended_ms IS NULL;
CREATE INDEX calls_running ON calls (number) WHERE ended_ms IS NULL;
CREATE INDEX calls_due ON calls (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX calls_by_age ON calls (ended_ms) WHERE ended_ms IS NOT NULL;
