-- One table for whoever sends, `send` and the bridge alike: a group's finished envelopes, sealed. The
-- bytes that an older version kept are sent again as they are, so each row says how they are read.
ALTER TABLE batches RENAME COLUMN body TO sealed;
-- NULL: a record of this row. Of an older version: '' the bytes themselves, else the lane of the
-- bridge that they were sealed for.
ALTER TABLE batches ADD COLUMN kept_for TEXT;
UPDATE batches SET sealed = CAST(sealed AS BLOB), kept_for = '';
