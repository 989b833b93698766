-- What is asked of the bot or a ghost where there is no portal, until it is answered.
CREATE TABLE errands (
    id       INTEGER PRIMARY KEY,
    event_id TEXT    NOT NULL UNIQUE,
    room_id  TEXT    NOT NULL,
    by_user  TEXT    NOT NULL,
    of_user  TEXT    NOT NULL,              -- the bot, or a ghost
    what     TEXT    NOT NULL,              -- which command; never a text
    asked_at BIGINT  NOT NULL
);
CREATE INDEX errands_by ON errands (by_user);

-- Rooms in which somebody is alone with the bot.
CREATE TABLE chats (
    room_id TEXT   NOT NULL PRIMARY KEY,
    user_id TEXT   NOT NULL,
    since   BIGINT NOT NULL
);
CREATE INDEX chats_user ON chats (user_id, since);

-- In which bridged rooms somebody is.
CREATE INDEX portal_mirrors_user ON portal_mirrors (user_id);

-- Who was told that what he did is not carried: once for each kind, in each portal.
CREATE TABLE answered (
    portal INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    who    TEXT    NOT NULL,
    kind   TEXT    NOT NULL,
    PRIMARY KEY (portal, who, kind)
);
