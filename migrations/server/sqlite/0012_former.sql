-- Since when a device is on no list, and a device in a group is taken out, as far as was noticed; both
-- are forgotten a month later, and claimed one-time keys a month after they were.
ALTER TABLE devices ADD COLUMN former_ms BIGINT;
CREATE INDEX devices_former ON devices (former_ms) WHERE listed = FALSE;
ALTER TABLE group_devices ADD COLUMN former_ms BIGINT;
CREATE INDEX group_devices_former ON group_devices (former_ms) WHERE until_epoch IS NOT NULL;
CREATE INDEX one_time_keys_claimed ON one_time_keys (claimed_ms) WHERE claimed_ms IS NOT NULL;
-- Of keys up to this number the claimed ones are forgotten: none of them is taken again.
ALTER TABLE devices ADD COLUMN spent_key BLOB;
