-- Leaves of calls that clients have scheduled at the homeserver and left to us: put off while their device
-- is on LiveKit, and carried out when it is gone.
CREATE TABLE delegated (
    room_id    TEXT    NOT NULL,
    identity   TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    group_id   BLOB,
    delay_id   TEXT    NOT NULL,
    timeout_ms BIGINT  NOT NULL,
    began_at   BIGINT  NOT NULL,
    put_off_at BIGINT  NOT NULL,
    is_seen    BOOLEAN NOT NULL,
    gone_at    BIGINT,
    PRIMARY KEY (room_id, identity)
);
CREATE INDEX delegated_by_user ON delegated (user_id);
