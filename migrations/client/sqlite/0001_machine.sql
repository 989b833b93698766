-- What a device keeps. Bytes are names of the protocol; columns called `sealed` are records of the
-- vault (bound to table, column and primary key); times are Unix milliseconds.

-- Data keys, wrapped by the storage key. Older ones of a class only open.
CREATE TABLE data_keys (
    key_id  BIGINT NOT NULL PRIMARY KEY,
    class   BIGINT NOT NULL,
    wrapped BLOB   NOT NULL
);

-- Who I am: one row.
CREATE TABLE own (
    id              BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    account         TEXT   NOT NULL,
    record          TEXT   NOT NULL,  -- device record, JSON
    list            TEXT   NOT NULL,  -- newest device list, JSON
    identity_sealed BLOB,             -- private identity key, on the account's first device only
    device_sealed   BLOB   NOT NULL,  -- private device key
    olm_sealed      BLOB   NOT NULL,  -- Olm account: one-time and fallback keys
    next_key_id     BIGINT NOT NULL,  -- of one-time keys
    generation      BIGINT NOT NULL,  -- compared with the file beside the database
    keys_left       BIGINT            -- one-time keys at the server, as it last said
);

-- One-time keys that are to be uploaded: their number at the server and in the Olm account.
CREATE TABLE one_time_keys (
    key_id   BLOB   NOT NULL PRIMARY KEY,
    fallback BIGINT NOT NULL,
    key      TEXT   NOT NULL         -- signed, JSON
);

-- Device lists as their identities signed them; versions never go back.
CREATE TABLE accounts (
    account   TEXT   NOT NULL,
    member_id BLOB   NOT NULL,
    version   BIGINT NOT NULL,
    list      TEXT   NOT NULL,
    seen_ms   BIGINT NOT NULL,
    PRIMARY KEY (account, member_id)
);

-- Device records whose signatures verify.
CREATE TABLE devices (
    device_id  BLOB NOT NULL PRIMARY KEY,
    member_id  BLOB NOT NULL,
    account    TEXT NOT NULL,
    curve25519 BLOB NOT NULL,
    record     TEXT NOT NULL
);

-- What is asked of the server once, and not again before a while: accounts and one-time keys.
CREATE TABLE asked (
    what      TEXT   NOT NULL,        -- 'account', 'claim', 'heal', 'key'
    name      BLOB   NOT NULL,
    done_ms   BIGINT,                 -- when it was answered in vain; NULL: to be asked
    PRIMARY KEY (what, name)
);

CREATE TABLE olm_sessions (
    peer       BLOB   NOT NULL,       -- device
    session_id TEXT   NOT NULL,
    sealed     BLOB   NOT NULL,
    used_ms    BIGINT NOT NULL,
    PRIMARY KEY (peer, session_id)
);

CREATE TABLE groups (
    group_id   BLOB   NOT NULL PRIMARY KEY,
    revision   BLOB   NOT NULL,       -- random, new with every change of its log
    head_epoch BIGINT,                -- NULL: only heard of, its ops are to be fetched
    joined     BIGINT NOT NULL,       -- whether I am in it at the head
    fork       TEXT,                  -- undecided second history, JSON
    rotate     BIGINT NOT NULL DEFAULT 0,
    fetch_from BIGINT,                -- ops from this epoch on are to be fetched
    active_ms  BIGINT NOT NULL DEFAULT 0,
    synced_ms  BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE ops (
    group_id    BLOB   NOT NULL,
    epoch       BIGINT NOT NULL,
    op          BLOB   NOT NULL,
    roster_hash BLOB   NOT NULL,
    op_hash     BLOB   NOT NULL,
    kind        BIGINT NOT NULL,
    taken_out   BLOB   NOT NULL,      -- n × (member 32, device 32)
    removed     TEXT   NOT NULL,      -- [[member, account], …], JSON
    roster      BLOB,                 -- NULL once it is older than 31 days
    place       BIGINT,               -- its row in my mailbox; 0: before I joined
    at_ms       BIGINT NOT NULL,
    PRIMARY KEY (group_id, epoch)
);

-- Mailbox rows of ops, also of those not installed yet.
CREATE TABLE places (
    group_id BLOB   NOT NULL,
    op_hash  BLOB   NOT NULL,
    seq      BIGINT NOT NULL,
    PRIMARY KEY (group_id, op_hash)
);

-- The chain that I send with: one for each group.
CREATE TABLE own_chains (
    group_id BLOB NOT NULL PRIMARY KEY,
    chain_id BLOB NOT NULL,
    sealed   BLOB NOT NULL
);

-- Whom I gave which chain. `sealed` is the distribution, until it is acknowledged or 7 days old.
CREATE TABLE given (
    chain_id    BLOB   NOT NULL,
    device_id   BLOB   NOT NULL,
    group_id    BLOB   NOT NULL,
    sealed      BLOB,
    at_ms       BIGINT NOT NULL,
    acked       BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (chain_id, device_id)
);

-- Chains of others.
CREATE TABLE held_chains (
    group_id BLOB   NOT NULL,
    sender   BLOB   NOT NULL,
    chain_id BLOB   NOT NULL,
    sealed   BLOB   NOT NULL,
    at_ms    BIGINT NOT NULL,
    PRIMARY KEY (group_id, sender, chain_id)
);

-- Rows that cannot be judged yet: a chain, a roster or a device record is missing.
CREATE TABLE holds (
    id         INTEGER NOT NULL PRIMARY KEY,
    group_id   BLOB   NOT NULL,
    sender     BLOB   NOT NULL,
    seq        BIGINT NOT NULL,
    waits_for  TEXT   NOT NULL,       -- 'chain', 'roster', 'device'
    bytes      BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    sealed     BLOB   NOT NULL
);
CREATE INDEX holds_of_sender ON holds (group_id, sender);

-- What was received, for 31 days: (sending device, client_id) of messages, envelope ids of others.
CREATE TABLE seen (
    sender   BLOB   NOT NULL,
    name     BLOB   NOT NULL,
    envelope BLOB   NOT NULL,
    at_ms    BIGINT NOT NULL,
    PRIMARY KEY (sender, name)
);
CREATE INDEX seen_envelope ON seen (envelope);
CREATE INDEX seen_at ON seen (at_ms);

CREATE TABLE acks_due (
    group_id BLOB   NOT NULL,
    device   BLOB   NOT NULL,
    chain_id BLOB   NOT NULL,
    start    BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (group_id, device, chain_id)
);

-- Chains that I lack and asked for, or am to ask for.
CREATE TABLE key_requests (
    group_id BLOB   NOT NULL,
    device   BLOB   NOT NULL,
    tag      BLOB   NOT NULL,
    idx      BIGINT NOT NULL,
    epoch    BIGINT NOT NULL,
    asked_ms BIGINT,
    PRIMARY KEY (group_id, device, tag)
);

-- Key requests that I answered, for the limit of 3 an hour.
CREATE TABLE answers (
    device BLOB   NOT NULL,
    at_ms  BIGINT NOT NULL
);

-- Finished envelopes to single devices, until the server has them. The epoch is stamped on when
-- they leave: it is not part of what Olm sealed, nor of the id.
CREATE TABLE outgoing (
    id        BLOB   NOT NULL PRIMARY KEY,
    seq       BIGINT NOT NULL,
    group_id  BLOB   NOT NULL,
    device    BLOB   NOT NULL,
    kind      BIGINT NOT NULL,
    payload   BLOB   NOT NULL,
    ttl_ms    BIGINT NOT NULL,
    at_ms     BIGINT NOT NULL
);

-- Invite links that I made or was given (type I), so that I can admit whoever uses them.
CREATE TABLE invites (
    ik_pub     BLOB   NOT NULL PRIMARY KEY,
    group_id   BLOB   NOT NULL,
    sealed     BLOB   NOT NULL,       -- the link
    made_here  BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    uses       BIGINT NOT NULL,
    revoked    BIGINT NOT NULL DEFAULT 0,
    used       BIGINT NOT NULL DEFAULT 0
);

-- Devices of other admins that are to be given a link.
CREATE TABLE owed_invites (
    ik_pub BLOB NOT NULL,
    device BLOB NOT NULL,
    PRIMARY KEY (ik_pub, device)
);

-- Join requests that wait for an answer.
CREATE TABLE joins (
    request_id BLOB   NOT NULL PRIMARY KEY,
    group_id   BLOB   NOT NULL,
    ik_pub     BLOB   NOT NULL,
    account    TEXT   NOT NULL,
    member_id  BLOB   NOT NULL,
    request    BLOB   NOT NULL,
    state      TEXT   NOT NULL,       -- 'new', 'ask', 'admitted', or why not
    at_ms      BIGINT NOT NULL
);
