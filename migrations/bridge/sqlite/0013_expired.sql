-- What the server says of a message by its own name for it is looked up by that.
CREATE INDEX links_of_message ON links (message_id);

-- Messages from rooms that some device did not fetch in time, until their room is told.
CREATE TABLE expired (
    id         INTEGER PRIMARY KEY,
    portal     INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    event_id   TEXT    NOT NULL,
    message_id BLOB    NOT NULL
);
CREATE INDEX expired_of_portal ON expired (portal, id);
