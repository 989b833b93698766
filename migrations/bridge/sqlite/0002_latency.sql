-- When what a row says was accepted: from the homeserver, or from the native stream. NULL where
-- nobody said anything, and where a dead letter is tried again: its wait says nothing.
ALTER TABLE portal_outbox ADD COLUMN accepted_at BIGINT;
