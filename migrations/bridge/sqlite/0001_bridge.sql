-- The bridge's rows, in bridge.db beside the client machine's.
--
-- Times are Unix milliseconds. Columns named `sealed` hold AEAD records under the class "queued
-- content", bound to table, column and primary key; they are emptied as soon as the row is done.

-- The pair room ↔ group.
CREATE TABLE portals (
    portal          INTEGER PRIMARY KEY,
    group_id        BLOB    NOT NULL UNIQUE,
    room_id         TEXT    UNIQUE,                  -- NULL until the bot has made it
    name            TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('making', 'open', 'closed')),
    encrypted       INTEGER NOT NULL DEFAULT 0,      -- 1: nothing goes into the room any more
    announced_epoch BIGINT  NOT NULL DEFAULT 0,      -- members of this epoch know every mirror
    suspect         INTEGER NOT NULL DEFAULT 0,      -- above 0: events may be missing, read back first
    cursor_event    TEXT,                            -- last event routed; repair reads back to it
    created_at      BIGINT  NOT NULL
);

-- The Matrix user that stands for a native account.
CREATE TABLE ghosts (
    account      TEXT   PRIMARY KEY,
    user_id      TEXT   NOT NULL UNIQUE,
    display_name TEXT   NOT NULL,
    made_at      BIGINT NOT NULL                     -- registered, device CAUSEWAY made, named
);

-- Where a ghost is; no row: not there, and nobody minds.
CREATE TABLE ghost_rooms (
    portal     INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    account    TEXT    NOT NULL,
    membership TEXT    NOT NULL CHECK (membership IN ('joined', 'removed')),
    removed_by TEXT,                                 -- who kicked or banned it
    PRIMARY KEY (portal, account)
);

-- Matrix users as the group knows them.
CREATE TABLE portal_mirrors (
    portal  INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    user_id TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    PRIMARY KEY (portal, user_id)
);

-- What was accepted from the homeserver: one row per event, kept for good against repeats.
CREATE TABLE inbox (
    seq         INTEGER PRIMARY KEY,
    event_id    TEXT    NOT NULL UNIQUE,
    room_id     TEXT    NOT NULL,
    state       INTEGER NOT NULL DEFAULT 0,          -- 0 waits, 1 routed, 2 its room is being made
    sealed      BLOB,                                -- the event, until it is routed
    received_at BIGINT  NOT NULL
);
CREATE INDEX inbox_waiting ON inbox (seq) WHERE state = 0;
CREATE INDEX inbox_early ON inbox (room_id) WHERE state = 2;

-- What could not be parsed, or not be read: kept whole, so that it can be looked at.
CREATE TABLE quarantine (
    hash        BLOB   PRIMARY KEY,                  -- SHA-256 of the bytes
    event_id    TEXT,
    reason      TEXT   NOT NULL,
    sealed      BLOB   NOT NULL,
    received_at BIGINT NOT NULL
);

-- What the bridge will do, stored before it is tried.
CREATE TABLE portal_outbox (
    id         INTEGER PRIMARY KEY,
    lane       TEXT    NOT NULL,
    txn        TEXT    NOT NULL UNIQUE,              -- makes trying twice safe: txn id or client id
    portal     INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    author     TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,                     -- the effect
    attempt    INTEGER NOT NULL DEFAULT 0,           -- answered refusals
    tried_at   BIGINT,                               -- first try whose outcome is not known
    expires_at BIGINT  NOT NULL,
    replayed   INTEGER NOT NULL DEFAULT 0,           -- 1: look for it in the room before sending
    batch      INTEGER REFERENCES portal_batches (batch) ON DELETE SET NULL
);
CREATE INDEX portal_outbox_lane ON portal_outbox (lane, id);
CREATE INDEX portal_outbox_batch ON portal_outbox (batch) WHERE batch IS NOT NULL;

-- Finished envelopes of rows that are being posted; re-sent as they are until the answer is known.
CREATE TABLE portal_batches (
    batch   INTEGER PRIMARY KEY,
    lane    TEXT   NOT NULL UNIQUE,
    sealed  BLOB   NOT NULL,
    made_at BIGINT NOT NULL
);

-- Order: rows of one lane leave it first in, first out.
CREATE TABLE lanes (
    lane        TEXT    PRIMARY KEY,
    ready       INTEGER NOT NULL DEFAULT 0,          -- 1: it has rows
    paused      TEXT,                                -- why it stands still until someone acts
    not_before  BIGINT  NOT NULL DEFAULT 0,
    failures    INTEGER NOT NULL DEFAULT 0,          -- in a row; sets the wait
    unreachable INTEGER NOT NULL DEFAULT 0,          -- 1: waits for the other side to come back
    lease_until BIGINT  NOT NULL DEFAULT 0           -- voided at start: the process holds the file
);
CREATE INDEX lanes_ready ON lanes (not_before) WHERE ready = 1;
CREATE INDEX lanes_unreachable ON lanes (lane) WHERE unreachable = 1;

-- What was given up, with its reason; can be tried again or dropped.
CREATE TABLE dead_letters (
    id       INTEGER PRIMARY KEY,
    lane     TEXT    NOT NULL,
    txn      TEXT    NOT NULL UNIQUE,
    portal   INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    author   TEXT    NOT NULL,
    sealed   BLOB    NOT NULL,
    reason   TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    tried_at BIGINT,
    died_at  BIGINT  NOT NULL
);

-- Which event is which message.
CREATE TABLE links (
    event_id   TEXT    PRIMARY KEY,
    portal     INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    device     BLOB    NOT NULL,                     -- sender's device in the group
    client_id  BLOB    NOT NULL,
    message_id BLOB                                  -- NULL until the server has it
) WITHOUT ROWID;
CREATE UNIQUE INDEX links_message ON links (portal, device, client_id);

-- Single facts: the last transaction id, the newest stream row.
CREATE TABLE cursors (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
