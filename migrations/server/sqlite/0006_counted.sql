-- How often a device says that it has sealed: one that counts less than this was put back from a copy.
ALTER TABLE devices ADD COLUMN counted BIGINT NOT NULL DEFAULT 0;
