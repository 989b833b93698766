-- The last row of the mailbox that is here, for a device that may read again from there when this
-- database was put back; and under which generation of the server's it has its number.
CREATE TABLE place (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    generation BLOB    NOT NULL,
    seq        BIGINT  NOT NULL,
    at_ms      BIGINT  NOT NULL
);
