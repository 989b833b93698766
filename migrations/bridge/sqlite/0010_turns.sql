-- How long a lane waits is kept in memory, by a clock that only goes forth; what stands here of it is
-- for people to read. A lane's turn: those that waited longest come first; NULL while it waits.
DROP INDEX lanes_ready;
DROP INDEX lanes_unreachable;
ALTER TABLE lanes DROP COLUMN unreachable;
ALTER TABLE lanes ADD COLUMN turn BIGINT DEFAULT 0;
CREATE INDEX lanes_ready ON lanes (turn) WHERE ready = TRUE AND paused IS NULL AND turn IS NOT NULL;
