-- A key is asked for again, ever more rarely, while what needs it lives: how often it was asked for, when it is next,
-- and until when.
ALTER TABLE key_requests ADD COLUMN tries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE key_requests ADD COLUMN next_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE key_requests ADD COLUMN until_ms BIGINT NOT NULL DEFAULT 0;
UPDATE key_requests SET until_ms = (CAST(strftime('%s', 'now') AS BIGINT) + 31 * 86400) * 1000;
ALTER TABLE key_requests DROP COLUMN asked_ms;
