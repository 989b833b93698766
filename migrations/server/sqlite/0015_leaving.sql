-- Accounts that left a group in which something is parked for them: upkeep lets go of it, a little at a time.
CREATE TABLE leaving (
    grp           BIGINT NOT NULL,
    account       TEXT   NOT NULL,
    until_seq     BIGINT NOT NULL,                 -- the number of the op: what came later is another matter
    keep_until_ms BIGINT NOT NULL,                 -- until then it is remembered that it was not taken
    PRIMARY KEY (grp, account)
) WITHOUT ROWID;
