-- How often what is parked was asked for in vain, and until when it is not asked for again: for an op of the group, and
-- for a key or a record of its sender.
ALTER TABLE parked ADD COLUMN tries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE parked ADD COLUMN next_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE parked ADD COLUMN key_ms BIGINT NOT NULL DEFAULT 0;
