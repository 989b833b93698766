-- Whose devices may wait in the room that the next call of a group has: when one of them leaves the group's room on
-- Matrix, that one is closed. They go with it.
CREATE TABLE waiting_guests (
    grp   BIGINT NOT NULL REFERENCES groups (grp),
    guest TEXT   NOT NULL,               -- a Matrix user's id
    PRIMARY KEY (grp, guest)
) WITHOUT ROWID;
