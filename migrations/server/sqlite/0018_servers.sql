-- Other servers, and how far what comes from them was taken: of a link that its sender names anew at each
-- start, so that frames of before are known as such.
CREATE TABLE servers (
    server   INTEGER NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    link     BLOB,                             -- its present one; none before its first frame
    taken    BIGINT  NOT NULL,                 -- the last frame of that
    former   BLOB    NOT NULL,                 -- the eight before, 16 bytes each, newest last
    heard_ms BIGINT  NOT NULL                  -- 0: never
);

-- What another server said of an account of its own, newest only: versions never go back.
CREATE TABLE remote_accounts (
    account  TEXT   NOT NULL PRIMARY KEY,
    version  BIGINT NOT NULL,
    answer   TEXT   NOT NULL,                  -- JSON
    asked_ms BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX remote_accounts_by_age ON remote_accounts (asked_ms);

-- Which account a device is of, of those.
CREATE TABLE remote_devices (
    device_id BLOB NOT NULL PRIMARY KEY,
    account   TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX remote_devices_by_account ON remote_devices (account);
