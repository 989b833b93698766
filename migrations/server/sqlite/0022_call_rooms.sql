-- Rooms that a call has, or had, on the server for bigger calls, until it is known that they are closed.
CREATE TABLE call_rooms (
    number INTEGER NOT NULL PRIMARY KEY, -- of the call, which may be forgotten before its room is closed
    room   TEXT    NOT NULL              -- what it is called there
);
CREATE INDEX call_rooms_by_name ON call_rooms (room);
