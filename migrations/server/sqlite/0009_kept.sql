-- What the bridge's device has acknowledged is kept for a while, for the case that its database is put
-- back from a copy.

-- Up to here what was acknowledged is gone; none: nothing is kept for this device.
ALTER TABLE mailboxes ADD COLUMN kept_seq BIGINT;
-- What was acknowledged after this is read again; none: nothing is.
ALTER TABLE mailboxes ADD COLUMN again_seq BIGINT;
CREATE INDEX mailboxes_kept ON mailboxes (device, kept_seq) WHERE kept_seq IS NOT NULL;

-- How much was acknowledged when: up to which number in that minute, and how many bytes of payload.
CREATE TABLE kept (
    device BIGINT NOT NULL,
    minute BIGINT NOT NULL,                    -- since 1970
    seq    BIGINT NOT NULL,
    bytes  BIGINT NOT NULL,
    PRIMARY KEY (device, minute)
) WITHOUT ROWID;

-- Since which number all have read it, and it is kept for somebody who may read it again.
ALTER TABLE broadcasts ADD COLUMN read_seq BIGINT;
DROP INDEX broadcasts_said;
CREATE INDEX broadcasts_said ON broadcasts (grp, seq)
    WHERE ended IS NULL AND sender IS NOT NULL AND read_seq IS NULL;
CREATE INDEX broadcasts_kept ON broadcasts (grp, seq) WHERE ended IS NULL AND read_seq IS NOT NULL;

-- The starts of this database, and the last number that was given before each.
CREATE TABLE generations (
    start      INTEGER NOT NULL PRIMARY KEY,
    generation BLOB    NOT NULL UNIQUE,
    after_seq  BIGINT  NOT NULL
);
