-- This database was put back from a copy; what is to be done about that is not all done yet.
CREATE TABLE restored (
    id        INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    known     BIGINT  NOT NULL,          -- commits that others knew of: names this time
    until_seq BIGINT,                    -- rows of the mailbox up to this one come again; none: not asked yet
    since     BIGINT,                    -- not before this they came the first time
    is_level  BIGINT NOT NULL DEFAULT 0  -- what comes now is new, but for what waited for a key
);
