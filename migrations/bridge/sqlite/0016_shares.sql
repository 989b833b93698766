-- Why the bridge, which is in the group, carries nothing there: whoever let it in may not ask that,
-- or not now.
ALTER TABLE portals ADD COLUMN refused TEXT;

-- What each account had of the bridge on a day, counted from 1970 in UTC; of that day and the one
-- before.
CREATE TABLE shares (
    id      INTEGER PRIMARY KEY,
    day     BIGINT  NOT NULL,
    account TEXT    NOT NULL,
    rooms   BIGINT  NOT NULL,
    invites BIGINT  NOT NULL,
    refused BIGINT  NOT NULL,                        -- how often it did not get all
    UNIQUE (day, account)
);
