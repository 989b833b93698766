-- What cannot go now waits apart, until there is a session with that device or until the server may be asked again,
-- and what is owed ends.
ALTER TABLE owed_words ADD COLUMN since_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE owed_words ADD COLUMN next_ms BIGINT NOT NULL DEFAULT 0;
UPDATE owed_words SET since_ms = CAST(strftime('%s', 'now') AS BIGINT) * 1000;
ALTER TABLE owed_invites ADD COLUMN since_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE owed_invites ADD COLUMN next_ms BIGINT NOT NULL DEFAULT 0;
UPDATE owed_invites SET since_ms = CAST(strftime('%s', 'now') AS BIGINT) * 1000;
