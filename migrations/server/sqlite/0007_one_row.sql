-- A broadcast is one row, in its group's order, whoever reads it. What waits in mailboxes from before
-- stays there, below every new number.

-- The last number that was given. It is an envelope's place in every mailbox: of the whole server.
CREATE TABLE numbers (last BIGINT NOT NULL);
INSERT INTO numbers (last) SELECT max(highest) FROM (
    SELECT COALESCE(max(envelope), 0) AS highest FROM envelopes
    UNION ALL SELECT COALESCE(max(last_seq), 0) FROM mailboxes);
ALTER TABLE mailboxes DROP COLUMN last_seq;

-- What was put down for a whole group: its envelope has the same number, an op is in `ops`. Devices
-- read it that counted at that place (`group_devices`), and since its epoch.
CREATE TABLE broadcasts (
    seq           INTEGER NOT NULL PRIMARY KEY,
    grp           BIGINT  NOT NULL REFERENCES groups (grp),
    epoch         BIGINT  NOT NULL,
    sender        BIGINT,                      -- does not read it; none of an op
    ended         BIGINT,                      -- since which number nobody is given it any more
    keep_until_ms BIGINT                       -- until when its sender may ask; none of an op, kept for good
);
CREATE INDEX broadcasts_live ON broadcasts (grp, seq, epoch, sender) WHERE ended IS NULL;
CREATE INDEX broadcasts_said ON broadcasts (grp, seq) WHERE ended IS NULL AND sender IS NOT NULL;
CREATE INDEX broadcasts_ended ON broadcasts (seq) WHERE ended IS NOT NULL;
CREATE INDEX broadcasts_ended_in ON broadcasts (grp, seq) WHERE ended IS NOT NULL;
CREATE INDEX broadcasts_by_age ON broadcasts (keep_until_ms) WHERE keep_until_ms IS NOT NULL;

-- An acknowledgement went past broadcasts that had ended before: those were not read.
CREATE TABLE passed (
    device        BIGINT NOT NULL,
    after_seq     BIGINT NOT NULL,
    until_seq     BIGINT NOT NULL,
    at_seq        BIGINT NOT NULL,             -- the last number then
    keep_until_ms BIGINT NOT NULL,
    PRIMARY KEY (device, after_seq)
) WITHOUT ROWID;
CREATE INDEX passed_by_age ON passed (keep_until_ms);

-- Between which numbers a device reads what is broadcast, the last one included.
ALTER TABLE group_devices ADD COLUMN after_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE group_devices ADD COLUMN until_seq BIGINT NOT NULL DEFAULT 9223372036854775807;
UPDATE group_devices SET until_seq = 0 WHERE until_epoch IS NOT NULL;
CREATE INDEX group_devices_since ON group_devices (grp, from_epoch) WHERE until_epoch IS NULL;

-- How many devices count at the head.
ALTER TABLE groups ADD COLUMN devices BIGINT NOT NULL DEFAULT 0;
UPDATE groups SET devices = (SELECT count(*) FROM group_devices d
    WHERE d.grp = groups.grp AND d.until_epoch IS NULL);

-- Of a broadcast: its number, and how many it was for. Its places are none.
ALTER TABLE accepted ADD COLUMN broadcast BIGINT;
ALTER TABLE accepted ADD COLUMN recipients BIGINT NOT NULL DEFAULT 0;

DROP INDEX mailbox_by_envelope;
CREATE INDEX mailbox_by_envelope ON mailbox (envelope, device);
