-- Messages and keys that could not be opened, by reason, until the server was told (hourly).
CREATE TABLE failures (
    group_id BLOB   NOT NULL,
    reason   TEXT   NOT NULL,
    n        BIGINT NOT NULL,
    PRIMARY KEY (group_id, reason)
);

-- Whether the requests that wait at the server are to be fetched: this device may answer them now,
-- and could not when they were made.
ALTER TABLE groups ADD COLUMN fetch_requests BIGINT NOT NULL DEFAULT 0;
