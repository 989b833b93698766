-- Device lists that were replaced: an op may have been made on one a moment before.
CREATE TABLE former_lists (
    account  TEXT   NOT NULL REFERENCES accounts (account),
    list     TEXT   NOT NULL,
    until_ms BIGINT NOT NULL,                  -- when another took its place
    PRIMARY KEY (account, until_ms)
);
CREATE INDEX former_lists_by_age ON former_lists (until_ms);
