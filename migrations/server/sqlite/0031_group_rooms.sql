-- The room on the server for bigger calls that the next call of a group with a bridge has: those of Matrix may wait
-- there. It is gone once a call has opened it, and with the bridge.
CREATE TABLE group_rooms (
    grp  BIGINT NOT NULL PRIMARY KEY REFERENCES groups (grp),
    room TEXT   NOT NULL                 -- what it is called there: drawn, and never again
) WITHOUT ROWID;
CREATE INDEX group_rooms_by_name ON group_rooms (room);
