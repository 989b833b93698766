-- 1: from before the database was put back. Still opens what comes, and seals nothing more: its keys
-- may have been used by what the copy does not know.
ALTER TABLE olm_sessions ADD COLUMN retired INTEGER NOT NULL DEFAULT 0;
