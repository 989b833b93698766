-- Everything that the blind half keeps. Times are Unix milliseconds; keys and ids are raw bytes.
-- Payloads are ciphertext: nothing in this file can open them.

CREATE TABLE accounts (
    account      TEXT   NOT NULL PRIMARY KEY,
    member_id    BLOB   NOT NULL UNIQUE,
    list_version BIGINT NOT NULL,
    list         TEXT   NOT NULL,              -- the newest device list, as its owner signed it
    created_ms   BIGINT NOT NULL
);

-- A number is never given twice: mailboxes, claims and deliveries outlive a device.
CREATE TABLE devices (
    device       INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id    BLOB    NOT NULL UNIQUE,
    member_id    BLOB    NOT NULL,
    account      TEXT    NOT NULL REFERENCES accounts (account),
    record       TEXT    NOT NULL,
    listed       BOOLEAN NOT NULL,             -- named by the newest list
    token_hash   BLOB    UNIQUE,               -- SHA-256 of the access token; none when logged out
    fallback_key TEXT
);
CREATE INDEX devices_by_account ON devices (account);

CREATE TABLE login_nonces (
    nonce      BLOB   NOT NULL PRIMARY KEY,
    expires_ms BIGINT NOT NULL
);

-- Claimed keys stay, so that an upload repeated cannot bring one back.
CREATE TABLE one_time_keys (
    device     BIGINT NOT NULL REFERENCES devices (device),
    key_id     BLOB   NOT NULL,
    curve25519 BLOB   NOT NULL,
    signature  BLOB   NOT NULL,
    claimed_ms BIGINT,
    PRIMARY KEY (device, key_id)
) WITHOUT ROWID;
CREATE INDEX one_time_keys_free ON one_time_keys (device, key_id) WHERE claimed_ms IS NULL;

-- How often one device claimed another's keys within an hour.
CREATE TABLE claims (
    claimer BIGINT NOT NULL,
    target  BIGINT NOT NULL,
    hour_ms BIGINT NOT NULL,
    count   BIGINT NOT NULL,
    PRIMARY KEY (claimer, target, hour_ms)
) WITHOUT ROWID;

CREATE TABLE groups (
    grp         INTEGER PRIMARY KEY,
    group_id    BLOB    NOT NULL UNIQUE,
    epoch       BIGINT  NOT NULL,
    roster      BLOB    NOT NULL,              -- at that epoch, as causeway-protocol writes it
    roster_hash BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    members     BIGINT  NOT NULL,
    closed      BOOLEAN NOT NULL,
    ttl_s       BIGINT  NOT NULL,
    stale_below BIGINT  NOT NULL               -- envelopes of an epoch below must be sealed again
);

CREATE TABLE ops (
    grp     BIGINT NOT NULL REFERENCES groups (grp),
    epoch   BIGINT NOT NULL,
    op_hash BLOB   NOT NULL,
    op      BLOB   NOT NULL,
    PRIMARY KEY (grp, epoch)
);

CREATE TABLE group_members (
    grp       BIGINT   NOT NULL REFERENCES groups (grp),
    member_id BLOB     NOT NULL,
    account   TEXT     NOT NULL,
    role      SMALLINT NOT NULL,
    PRIMARY KEY (grp, member_id)
) WITHOUT ROWID;

-- Which devices count, and from which epoch; those taken out remember until which.
CREATE TABLE group_devices (
    grp         BIGINT NOT NULL REFERENCES groups (grp),
    device_id   BLOB   NOT NULL,
    member_id   BLOB   NOT NULL,
    from_epoch  BIGINT NOT NULL,
    until_epoch BIGINT,
    PRIMARY KEY (grp, device_id, member_id, from_epoch)
) WITHOUT ROWID;
CREATE INDEX group_devices_by_device ON group_devices (device_id, grp);

CREATE TABLE invites (
    grp        BIGINT  NOT NULL REFERENCES groups (grp),
    ik_pub     BLOB    NOT NULL,
    account    TEXT    NOT NULL,               -- of who made it
    expires_ms BIGINT  NOT NULL,
    uses       BIGINT  NOT NULL,
    revoked    BOOLEAN NOT NULL,
    PRIMARY KEY (grp, ik_pub)
) WITHOUT ROWID;

-- One use each: an identity that asks again, because an answer was lost, takes no second one.
CREATE TABLE invite_uses (
    grp       BIGINT NOT NULL,
    ik_pub    BLOB   NOT NULL,
    member_id BLOB   NOT NULL,
    PRIMARY KEY (grp, ik_pub, member_id),
    FOREIGN KEY (grp, ik_pub) REFERENCES invites (grp, ik_pub)
) WITHOUT ROWID;

CREATE TABLE join_requests (
    grp        BIGINT NOT NULL REFERENCES groups (grp),
    request_id BLOB   NOT NULL,
    member_id  BLOB   NOT NULL,
    request    BLOB   NOT NULL,
    at_ms      BIGINT NOT NULL,
    PRIMARY KEY (grp, request_id)
);

-- What is still to be fetched by somebody; gone with the last mailbox row that points to it.
CREATE TABLE envelopes (
    envelope   INTEGER  PRIMARY KEY,
    id         BLOB,                           -- none of a fan-out: each of its rows has its own
    kind       SMALLINT NOT NULL,
    grp        BIGINT   NOT NULL REFERENCES groups (grp),
    epoch      BIGINT   NOT NULL,
    sender     BIGINT   REFERENCES devices (device),
    recipient  BLOB,                           -- a device; none of a broadcast
    ttl_ms     BIGINT   NOT NULL,
    expires_ms BIGINT,                         -- none: kept until it is acknowledged
    payload    BLOB     NOT NULL
);
CREATE INDEX envelopes_by_expiry ON envelopes (expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TABLE mailboxes (
    device    BIGINT NOT NULL PRIMARY KEY REFERENCES devices (device),
    last_seq  BIGINT NOT NULL,
    acked_seq BIGINT NOT NULL
);

CREATE TABLE mailbox (
    device   BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    envelope BIGINT NOT NULL,
    piece    BLOB,                             -- of a fan-out: this device's part
    PRIMARY KEY (device, seq)
) WITHOUT ROWID;
CREATE INDEX mailbox_by_envelope ON mailbox (envelope);

-- What was accepted from a device, so that it is accepted once, and what became of it.
CREATE TABLE accepted (
    sender        BIGINT NOT NULL,
    id            BLOB   NOT NULL,
    keep_until_ms BIGINT NOT NULL,
    places        BLOB   NOT NULL,             -- per recipient device: be64 device, be64 seq
    PRIMARY KEY (sender, id)
) WITHOUT ROWID;
CREATE INDEX accepted_by_age ON accepted (keep_until_ms);

-- Mailbox rows that nobody fetched in time.
CREATE TABLE expired (
    device        BIGINT NOT NULL,
    seq           BIGINT NOT NULL,
    keep_until_ms BIGINT NOT NULL,
    PRIMARY KEY (device, seq)
) WITHOUT ROWID;
CREATE INDEX expired_by_age ON expired (keep_until_ms);

CREATE TABLE sender_key_reports (
    grp    BIGINT NOT NULL REFERENCES groups (grp),
    device BIGINT NOT NULL REFERENCES devices (device),
    at_ms  BIGINT NOT NULL,
    report TEXT   NOT NULL,
    PRIMARY KEY (grp, device)
);

-- When an admin last asked that everybody rotate.
CREATE TABLE rotations (
    grp   BIGINT NOT NULL PRIMARY KEY REFERENCES groups (grp),
    at_ms BIGINT NOT NULL
);

-- How much happened, by hour and kind; kept for seven days.
CREATE TABLE events (
    hour_ms BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    count   BIGINT NOT NULL,
    PRIMARY KEY (hour_ms, kind)
) WITHOUT ROWID;
