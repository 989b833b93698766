-- Rows of the SDK and of causeway-client, beside the machine's (0001), so that a moved ratchet and
-- what it made or opened are kept by one commit.

-- Where this device is logged in; one row.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    server_url TEXT NOT NULL,
    -- The access token, sealed by the vault; NULL until the server has given one.
    token BLOB
);

-- Messages that `send` has promised to deliver, in the order of their rows within a group. A row
-- stays after it was accepted: the same input given again (`send --resume`) finds it by client_id.
CREATE TABLE outbox (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id BLOB NOT NULL,
    client_id BLOB NOT NULL UNIQUE,
    -- TTL and content, sealed; emptied when the row is accepted or has failed.
    content BLOB NOT NULL,
    created_ms BIGINT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'accepted', 'failed')),
    -- What `state` cannot say: the id it was accepted under, or why it failed.
    envelope_id BLOB,
    failure TEXT
);
CREATE INDEX outbox_queue ON outbox (group_id, row) WHERE state = 'queued';

-- What was sealed and is on its way: at most one batch per group, so that messages keep their order
-- whoever posts it. Its bytes are sent again after an unknown outcome; it is dropped when the server
-- has accepted it, or has refused it for its epoch.
CREATE TABLE batches (
    -- Never used twice: a process that was slow must not drop the batch after its own.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id BLOB NOT NULL UNIQUE,
    -- Finished envelopes as JSON: ciphertext, which the server sees too.
    body TEXT NOT NULL,
    -- Rows of the outbox that it carries, as a JSON list in the order of its messages.
    rows TEXT NOT NULL
);

-- What `tail` shows, in the order in which it came.
CREATE TABLE history (
    row INTEGER PRIMARY KEY,
    group_id BLOB NOT NULL,
    at_ms BIGINT NOT NULL,
    -- The line as JSON, sealed: it holds what people wrote.
    line BLOB NOT NULL
);

-- How far the reader of `tail` has come in each group.
CREATE TABLE shown (
    group_id BLOB PRIMARY KEY,
    row INTEGER NOT NULL
);

-- Matrix users as the bridge has announced them, for the names that `tail` shows.
CREATE TABLE mirrors (
    group_id BLOB NOT NULL,
    matrix_id TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (group_id, matrix_id)
);
