-- Groups of other programs whose lines were imported; nobody is in them, and nothing is sent there.
CREATE TABLE imported (
    group_id BLOB NOT NULL PRIMARY KEY,   -- made from the id that it had there
    name     BLOB NOT NULL                -- sealed
);
