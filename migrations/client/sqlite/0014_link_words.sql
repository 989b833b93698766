-- Links that were taken back, by whom this device believes in that group, whether it holds them or not. Those that
-- this device took back are told again with the group's next op, as told_again says.
CREATE TABLE revoked_links (
    group_id   BLOB    NOT NULL,
    ik_pub     BLOB    NOT NULL,
    at_ms      BIGINT  NOT NULL,
    told_again BOOLEAN NOT NULL,
    PRIMARY KEY (group_id, ik_pub)
);
CREATE INDEX revoked_links_of_group ON revoked_links (group_id, told_again);
INSERT INTO revoked_links (ik_pub, group_id, at_ms, told_again)
    SELECT ik_pub, group_id, expires_ms, FALSE FROM invites WHERE revoked <> 0;
ALTER TABLE invites DROP COLUMN revoked;

-- Who took a use of which link, so that what several holders have seen is counted once. The column
-- `used` of `invites` counts these, and those of before there was this table.
CREATE TABLE link_uses (
    ik_pub    BLOB NOT NULL,
    member_id BLOB NOT NULL,
    PRIMARY KEY (ik_pub, member_id)
);

-- What devices of other admins are to be told of a link: that it was taken back, or whom it let in.
CREATE TABLE owed_words (
    group_id  BLOB NOT NULL,
    ik_pub    BLOB NOT NULL,
    device    BLOB NOT NULL,
    member_id BLOB NOT NULL,          -- empty: taken back
    PRIMARY KEY (group_id, ik_pub, device, member_id)
);
