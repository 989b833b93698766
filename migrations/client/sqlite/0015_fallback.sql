-- The fallback key that the server is to have: since when, whether it opened a session, and until when
-- the one before it is kept. A device of before has no row, and makes a new one.
CREATE TABLE fallback_key (
    id              INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    curve25519      BLOB    NOT NULL,
    made_ms         BIGINT  NOT NULL,
    is_used         BOOLEAN NOT NULL DEFAULT FALSE,
    former_until_ms BIGINT
);

-- Whether the keys that wait to be uploaded take the place of all that are at the server. Until now
-- that was so wherever a fallback key was among them.
ALTER TABLE own ADD COLUMN replaces BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE own SET replaces = TRUE
    WHERE EXISTS (SELECT 1 FROM one_time_keys WHERE key LIKE '%"fallback":true%');
