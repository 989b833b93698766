-- Which other server a device is on; none: this one. Those have mailboxes as all have, from which their
-- servers are served.
ALTER TABLE devices ADD COLUMN server BIGINT;
CREATE INDEX devices_by_server ON devices (server) WHERE server IS NOT NULL;

-- Up to which number a server has all that was for its devices.
ALTER TABLE servers ADD COLUMN forwarded BIGINT NOT NULL DEFAULT 0;

-- Servers to which this one, the home of a group, gives the group's ops, and the last epoch that is there;
-- -1: none is.
CREATE TABLE replicas (
    grp    BIGINT NOT NULL REFERENCES groups (grp),
    server BIGINT NOT NULL,
    epoch  BIGINT NOT NULL,
    PRIMARY KEY (server, grp)
) WITHOUT ROWID;
