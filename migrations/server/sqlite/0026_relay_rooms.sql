-- The Matrix room of agents that carries what is for all of a group which is on three servers or more.
CREATE TABLE relay_rooms (
    grp     BIGINT NOT NULL PRIMARY KEY REFERENCES groups (grp),
    room_id TEXT   NOT NULL
) WITHOUT ROWID;
