-- When somebody said that this database was put back from a copy: accounts that were made after the copy
-- are not known to it, and groups that have them go on all the same for a time.
CREATE TABLE put_back (
    id    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at_ms BIGINT  NOT NULL
);
