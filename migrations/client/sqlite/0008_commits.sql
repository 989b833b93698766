-- How many commits were counted; the file beside the database holds the last that is on disk. Until
-- now it stood among the keys, which made each count as large as they are.
CREATE TABLE commits (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    n  BIGINT  NOT NULL
);
INSERT INTO commits (id, n) SELECT 1, COALESCE(MAX(generation), 0) FROM own;
ALTER TABLE own DROP COLUMN generation;
