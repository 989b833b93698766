-- Matrix users who are invited into the portal's room, and have not come: who is to be invited again
-- where another room is made, while the old one may be gone.
CREATE TABLE portal_invited (
    portal  INTEGER NOT NULL REFERENCES portals (portal) ON DELETE CASCADE,
    user_id TEXT    NOT NULL,
    PRIMARY KEY (portal, user_id)
);
