-- How far the homeserver's own account (/sync, as the bot) has been read: one row.
CREATE TABLE reading (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    token  TEXT,                                     -- NULL before the first time
    doubts  BIGINT NOT NULL,                         -- above 0: it is to be read before more is routed
    settled BIGINT NOT NULL                          -- inbox rows up to here may be routed all the same
);
INSERT INTO reading (one, doubts, settled) VALUES (1, 0, 0);

-- Rooms of which something is missing; they wait until it is there.
CREATE TABLE gaps (
    room_id TEXT PRIMARY KEY,
    behind  TEXT,                                    -- the place before what is missing; NULL: unknown
    opened  BIGINT NOT NULL DEFAULT 1,               -- how often: it closes only after the last
    again   TEXT                                     -- where it is read from once more, then
);

-- State 3 of an inbox row: it does not open, and is fetched from the room again.
CREATE INDEX inbox_damaged ON inbox (seq) WHERE state = 3;

-- A gap without a place begins behind the last event of its room that was routed.
CREATE INDEX inbox_routed ON inbox (room_id, seq) WHERE state = 1;

-- Rooms are doubted all together, and read on from a token.
DROP INDEX portals_suspect;
ALTER TABLE portals DROP COLUMN suspect;
ALTER TABLE portals DROP COLUMN cursor_event;
