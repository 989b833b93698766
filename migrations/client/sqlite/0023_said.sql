-- What a line of the history is called, so that one that answers it finds its row and what was not
-- read yet is counted, neither of which opens a line. Lines of before this have none.
ALTER TABLE history ADD COLUMN device BLOB;
ALTER TABLE history ADD COLUMN client_id BLOB;
-- Whether it was said with this home.
ALTER TABLE history ADD COLUMN own BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX history_said ON history (client_id) WHERE client_id IS NOT NULL;
CREATE INDEX history_of ON history (group_id, row);
