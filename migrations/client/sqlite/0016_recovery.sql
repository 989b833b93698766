-- Whether the ops of all groups name this device; not so for one that was made by the recovery key, at
-- first.
ALTER TABLE own ADD COLUMN listed BOOLEAN NOT NULL DEFAULT TRUE;
