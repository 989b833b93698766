-- Whose it is, where others of the lane need not wait for it; NULL where they do.
ALTER TABLE portal_outbox ADD COLUMN who TEXT;
-- Only what somebody said has a time at which it was accepted.
UPDATE portal_outbox SET who = author WHERE lane LIKE 'portal/%/to_matrix' AND accepted_at IS NOT NULL;
