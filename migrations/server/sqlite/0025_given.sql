-- What other servers acknowledged, kept for a while: one that is put back from a copy is given it again.

-- The numbers of this server, as others know them: another name once this database was put back, since what
-- was numbered after the copy is numbered again. The newest is the present one.
CREATE TABLE giving (
    n         INTEGER NOT NULL PRIMARY KEY,
    stream    BLOB    NOT NULL UNIQUE,         -- 16 bytes
    until_seq BIGINT                           -- what of it is known here; none: all
);

-- Items as they went, sealed as they are.
CREATE TABLE given (
    server   BIGINT NOT NULL,
    seq      BIGINT NOT NULL,                  -- one of `numbers`
    bytes    BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,                  -- nobody is to have it any more then
    item     TEXT   NOT NULL,                  -- JSON
    PRIMARY KEY (server, seq)
) WITHOUT ROWID;
CREATE INDEX given_by_age ON given (until_ms);

-- Up to which number a server has acknowledged all; 0: nothing yet under such numbers.
ALTER TABLE servers ADD COLUMN given BIGINT NOT NULL DEFAULT 0;
-- Bytes that are kept for it.
ALTER TABLE servers ADD COLUMN given_bytes BIGINT NOT NULL DEFAULT 0;
CREATE INDEX servers_by_given ON servers (given_bytes) WHERE given_bytes > 0;
-- Up to this number something is not kept any more, for want of room.
ALTER TABLE servers ADD COLUMN given_from BIGINT NOT NULL DEFAULT 0;

-- What was taken of a server's own stream; none: nothing.
ALTER TABLE servers ADD COLUMN had_stream BLOB;
ALTER TABLE servers ADD COLUMN had_seq BIGINT NOT NULL DEFAULT 0;
