-- How far what was accepted came, and how long that took.

-- When an envelope was accepted; 0 for what was there before this was kept.
ALTER TABLE envelopes ADD COLUMN at_ms BIGINT NOT NULL DEFAULT 0;

-- The highest row that a stream of the device, ended by now, was sent.
ALTER TABLE mailboxes ADD COLUMN sent_seq BIGINT NOT NULL DEFAULT 0;
