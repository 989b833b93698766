-- Of whom rows are parked at the server, because there was no room to hold them here.
CREATE TABLE parked (
    group_id BLOB   NOT NULL,
    sender   BLOB   NOT NULL,                  -- a device
    last_seq BIGINT NOT NULL,                  -- the highest of them that is known here
    due      BIGINT NOT NULL,                  -- how often something came for which they may wait; 0: it was looked
    at_ms    BIGINT NOT NULL,                  -- when one was parked last
    PRIMARY KEY (group_id, sender)
) WITHOUT ROWID;
CREATE INDEX parked_due ON parked (group_id, sender) WHERE due > 0;
CREATE INDEX parked_by_sender ON parked (sender);
CREATE INDEX parked_by_age ON parked (at_ms);
