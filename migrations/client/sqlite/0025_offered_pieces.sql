-- What waits in an offered group with a piece of its own: whose it is, while the piece is unopened, and whether it was
-- opened, which it is before anything that follows it in the same session.
ALTER TABLE offered_rows ADD COLUMN unopened BLOB;
ALTER TABLE offered_rows ADD COLUMN is_opened BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX offered_rows_unopened ON offered_rows (unopened, seq) WHERE unopened IS NOT NULL;

-- Whether it was opened while its group was offered.
ALTER TABLE holds ADD COLUMN is_opened BOOLEAN NOT NULL DEFAULT FALSE;
