-- Statements say TRUE, which PostgreSQL wants to read; an index is used by those that say the same.
DROP INDEX lanes_ready;
CREATE INDEX lanes_ready ON lanes (not_before) WHERE ready = TRUE AND paused IS NULL;
DROP INDEX lanes_unreachable;
CREATE INDEX lanes_unreachable ON lanes (lane) WHERE unreachable = TRUE;
