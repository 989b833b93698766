-- Devices of this server that take part in a call of a group whose home is another server: of them alone that one
-- may ask whether they are there.
CREATE TABLE calls_elsewhere (
    device   BIGINT NOT NULL,
    grp      BIGINT NOT NULL REFERENCES groups (grp),
    call_id  BLOB   NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (device, grp)
) WITHOUT ROWID;
CREATE INDEX calls_elsewhere_by_call ON calls_elsewhere (grp, call_id);
CREATE INDEX calls_elsewhere_by_age ON calls_elsewhere (since_ms);
