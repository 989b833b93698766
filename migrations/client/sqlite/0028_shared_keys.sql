-- Keys that all of a group share, as this device has them: made here, or given by another device.
CREATE TABLE shared_keys (
    group_id   BLOB    NOT NULL,
    key_id     BLOB    NOT NULL,
    epoch      BIGINT  NOT NULL,
    generation BIGINT  NOT NULL,
    alg        BIGINT  NOT NULL,
    roster     BLOB    NOT NULL,       -- hash of the roster of that epoch
    maker      BLOB    NOT NULL,       -- the device that gave it; this one, where it has made it
    sealed     BLOB    NOT NULL,
    created_ms BIGINT  NOT NULL,       -- from when on it is sent under, as its maker says
    ends_ms    BIGINT  NOT NULL,       -- until when, likewise
    at_ms      BIGINT  NOT NULL,       -- when it came
    next       BIGINT  NOT NULL,       -- number of this device's next message under it
    retired_ms BIGINT,                 -- since when another is sent under
    is_given   BOOLEAN NOT NULL,       -- whether nobody is left whom this device is to give it
    PRIMARY KEY (group_id, key_id)
);

-- Which messages of a sender were opened under a key.
CREATE TABLE shared_windows (
    group_id BLOB NOT NULL,
    key_id   BLOB NOT NULL,
    sender   BLOB NOT NULL,
    opened   BLOB NOT NULL,
    PRIMARY KEY (group_id, key_id, sender)
) WITHOUT ROWID;

-- Whom a key of this device's was given, and who could not be given it.
CREATE TABLE shared_given (
    group_id BLOB   NOT NULL,
    key_id   BLOB   NOT NULL,
    device   BLOB   NOT NULL,
    next_ms  BIGINT,                   -- when that is tried again; NULL: it has it
    PRIMARY KEY (group_id, key_id, device)
) WITHOUT ROWID;
CREATE INDEX shared_given_waits ON shared_given (device) WHERE next_ms IS NOT NULL;

-- Groups that share a key, and when their keys are to be looked after.
CREATE TABLE shared_groups (
    group_id BLOB   NOT NULL PRIMARY KEY,
    due_ms   BIGINT NOT NULL
);
CREATE INDEX shared_groups_due ON shared_groups (due_ms);
