-- How much is kept of the groups of which another server is the home, so that none fills this one's disk. A number
-- of a group that is forgotten is given to the next one: nothing of it is left but the row in `groups`.
CREATE TABLE kept_logs (
    grp          BIGINT  NOT NULL PRIMARY KEY REFERENCES groups (grp),
    home         TEXT    NOT NULL,             -- empty: the number is free
    entries      BIGINT  NOT NULL,             -- ops, and what they name
    bytes        BIGINT  NOT NULL,             -- about what all that takes
    idle_entries BIGINT  NOT NULL,             -- of these what came while nobody of this server was in the group
    idle_bytes   BIGINT  NOT NULL,
    idle_ms      BIGINT,                       -- when the last of that came; none: somebody is in it
    named        BOOLEAN NOT NULL              -- somebody of this server is in it, or was
) WITHOUT ROWID;
CREATE INDEX kept_logs_by_home ON kept_logs (home, entries, bytes, idle_entries, idle_bytes);
CREATE INDEX kept_logs_idle ON kept_logs (idle_ms) WHERE named = FALSE;

-- Those from before are taken to have somebody here.
INSERT INTO kept_logs
    (grp, home, entries, bytes, idle_entries, idle_bytes, idle_ms, named)
SELECT g.grp, s.name,
    (SELECT count(*) FROM ops o WHERE o.grp = g.grp)
        + (SELECT count(*) FROM group_devices d WHERE d.grp = g.grp),
    (SELECT COALESCE(sum(2 * length(o.op) + 128), 0) FROM ops o WHERE o.grp = g.grp)
        + 128 * (SELECT count(*) FROM group_devices d WHERE d.grp = g.grp),
    0, 0, NULL, TRUE
FROM groups g JOIN servers s ON s.name = substr(g.creator, instr(g.creator, ':') + 1);
