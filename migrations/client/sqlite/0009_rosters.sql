-- A roster was kept whole for each op, so that a group's rows grew with the square of its members.
-- Now ops are the truth, and one is kept whole now and then; the others are made again from it.

-- Bytes of ops since the last roster that is whole.
ALTER TABLE groups ADD COLUMN since_whole BIGINT NOT NULL DEFAULT 0;
-- The first epoch whose roster is not forgotten.
ALTER TABLE groups ADD COLUMN rosters_from BIGINT NOT NULL DEFAULT 0;
UPDATE groups SET rosters_from = COALESCE(
    (SELECT MIN(epoch) FROM ops WHERE ops.group_id = groups.group_id AND roster IS NOT NULL), 0);

-- Of those that are there the first stays, and the last of each 64 KiB of ops; the newest is one.
WITH steps AS (
    SELECT group_id, epoch, roster IS NOT NULL AS whole,
        SUM(LENGTH(op)) OVER (PARTITION BY group_id ORDER BY epoch) / 65536 AS step
    FROM ops
), kept AS (
    SELECT group_id, MAX(epoch) AS epoch FROM steps WHERE whole GROUP BY group_id, step
    UNION SELECT group_id, rosters_from FROM groups
)
UPDATE ops SET roster = NULL
WHERE roster IS NOT NULL AND (group_id, epoch) NOT IN (SELECT group_id, epoch FROM kept);

CREATE INDEX ops_whole ON ops (group_id, epoch) WHERE roster IS NOT NULL;
