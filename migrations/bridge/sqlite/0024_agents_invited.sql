-- Agents of other servers that were invited into relay rooms and have not come: a start does not invite them anew.
CREATE TABLE agents_invited (
    room    TEXT   NOT NULL,
    server  TEXT   NOT NULL,
    next_at BIGINT NOT NULL,                         -- not again before
    wait_ms BIGINT NOT NULL,                         -- how long that was waited for
    PRIMARY KEY (room, server)
) WITHOUT ROWID;
