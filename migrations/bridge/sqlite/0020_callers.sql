-- Ghosts that may be shown as being in a call of a room: noted before the homeserver is told, and
-- forgotten once it is told that they are not.
CREATE TABLE callers (
    room_id   TEXT   NOT NULL,
    state_key TEXT   NOT NULL,
    user_id   TEXT   NOT NULL,
    group_id  BLOB   NOT NULL,
    began_at  BIGINT NOT NULL,
    PRIMARY KEY (room_id, state_key)
);
