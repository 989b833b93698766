-- Groups of a legacy suite: the chain that this device speaks with, whom it was given to, and what is held of others.
CREATE TABLE legacy_own (
    group_id   BLOB   NOT NULL PRIMARY KEY,
    sealed     BLOB   NOT NULL,
    epoch      BIGINT NOT NULL,       -- in which it began
    created_ms BIGINT NOT NULL
);
CREATE TABLE legacy_given (
    group_id  BLOB NOT NULL,
    device_id BLOB NOT NULL,
    PRIMARY KEY (group_id, device_id)
);
CREATE TABLE legacy_held (
    group_id BLOB   NOT NULL,
    sender   BLOB   NOT NULL,
    sealed   BLOB   NOT NULL,
    version  BIGINT NOT NULL,         -- the highest min_version that it can follow
    at_ms    BIGINT NOT NULL,         -- when it was last spoken with
    PRIMARY KEY (group_id, sender)
);
CREATE INDEX legacy_held_by_age ON legacy_held (at_ms);
