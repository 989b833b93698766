-- Groups that were over and were forgotten, and up to which epoch: what comes of them still is passed over. The last row
-- of `history` then, so that rows go on from there.
CREATE TABLE forgotten (
    group_id BLOB   NOT NULL PRIMARY KEY,
    epoch    BIGINT NOT NULL,
    row      BIGINT NOT NULL
);
