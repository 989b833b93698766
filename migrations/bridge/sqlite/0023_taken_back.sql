-- What was taken back in its room before it went. 1: for the first time; it goes, and is not kept to be sealed anew.
-- 2: to be sealed anew; it does not go.
ALTER TABLE portal_outbox ADD COLUMN taken_back BIGINT NOT NULL DEFAULT 0;
