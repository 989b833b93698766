-- How far what crosses servers came.

-- What was taken of other servers' devices, by the number that it has here: those are told how far it came by
-- the names that they know.
CREATE TABLE taken (
    server        BIGINT NOT NULL,
    grp           BIGINT NOT NULL,
    seq           BIGINT NOT NULL,
    sender        BIGINT NOT NULL,
    id            BLOB   NOT NULL,
    keep_until_ms BIGINT NOT NULL,
    PRIMARY KEY (server, grp, seq)
) WITHOUT ROWID;
CREATE INDEX taken_by_age ON taken (keep_until_ms);

-- What another server is still to be told of: what it sent and nobody here has, or not all.
CREATE TABLE owed_progress (
    server   BIGINT  NOT NULL,
    sender   BLOB    NOT NULL,                 -- its device
    id       BLOB    NOT NULL,                 -- what that calls it
    device   BIGINT  NOT NULL,                 -- who has it not; 0: nobody here has it
    n        BIGINT  NOT NULL,
    group_id BLOB    NOT NULL,
    reason   TEXT,                             -- none: it ended before
    PRIMARY KEY (server, sender, id, device)
) WITHOUT ROWID;
CREATE INDEX owed_progress_in_order ON owed_progress (server, n);

-- Up to where a device of another server was given, and has, what was for it, by that server's word.
ALTER TABLE mailboxes ADD COLUMN told_sent BIGINT NOT NULL DEFAULT 0;
ALTER TABLE mailboxes ADD COLUMN told_acked BIGINT NOT NULL DEFAULT 0;

-- Why something failed at another server; none: as `has_left` says.
ALTER TABLE refused ADD COLUMN reason TEXT;

-- What another server calls a fan-out of which it was given its devices' part.
CREATE TABLE cut_fan_outs (
    server        BIGINT NOT NULL,
    id            BLOB   NOT NULL,
    whole_id      BLOB   NOT NULL,
    keep_until_ms BIGINT NOT NULL,
    PRIMARY KEY (server, id)
) WITHOUT ROWID;
CREATE INDEX cut_fan_outs_by_age ON cut_fan_outs (keep_until_ms);
