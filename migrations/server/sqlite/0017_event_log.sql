-- What happened in groups, for their members and the operator: nothing that was said, and no key. Its
-- number is one of `numbers`, as every place in a mailbox, so that it is never given twice.
CREATE TABLE event_log (
    event   INTEGER NOT NULL PRIMARY KEY,
    at_ms   BIGINT  NOT NULL,
    grp     BIGINT  NOT NULL REFERENCES groups (grp),
    place   BIGINT  NOT NULL,                  -- devices may know of it that counted at that place
    kind    TEXT    NOT NULL,
    account TEXT    NOT NULL,                  -- whom it is about
    own     BOOLEAN NOT NULL,                  -- of all members that account alone may know of it
    about   TEXT    NOT NULL                   -- the rest, JSON
);
CREATE INDEX event_log_by_group ON event_log (grp, event);
CREATE INDEX event_log_by_age ON event_log (at_ms);

-- Up to which number events of a group are gone; those of the whole server under group 0.
CREATE TABLE events_gone (
    grp   BIGINT  NOT NULL PRIMARY KEY,
    event BIGINT  NOT NULL
) WITHOUT ROWID;
