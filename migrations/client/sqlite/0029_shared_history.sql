-- What is to be given to a member who came later, page by page: as a finished plaintext, sealed by the vault, but
-- for the device that it is for. It goes when no device waits for it any more.
CREATE TABLE share_pages (
    share_id BLOB   NOT NULL,
    page     BIGINT NOT NULL,
    sealed   BLOB   NOT NULL,
    PRIMARY KEY (share_id, page)
);

-- Which devices wait for which share, and what page is next.
CREATE TABLE owed_shares (
    share_id  BLOB   NOT NULL,
    device    BLOB   NOT NULL,
    group_id  BLOB   NOT NULL,
    pages     BIGINT NOT NULL,
    next_page BIGINT NOT NULL,
    since_ms  BIGINT NOT NULL,
    next_ms   BIGINT NOT NULL,         -- when it is tried again, where it cannot go now
    PRIMARY KEY (share_id, device)
);
CREATE INDEX owed_shares_of ON owed_shares (device);

-- Shares that came, and which of their pages.
CREATE TABLE heard_shares (
    group_id  BLOB   NOT NULL,
    device    BLOB   NOT NULL,         -- that gives it
    share_id  BLOB   NOT NULL,
    member_id BLOB   NOT NULL,         -- whose device that is
    pages     BIGINT NOT NULL,
    taken     BIGINT NOT NULL,         -- a bit for each page that came
    lacking   BIGINT NOT NULL,         -- how many have not
    since_ms  BIGINT NOT NULL,
    PRIMARY KEY (group_id, device, share_id)
);
CREATE INDEX heard_shares_of ON heard_shares (group_id, member_id);

-- How much of it one member has sent since when.
CREATE TABLE sharers (
    group_id  BLOB   NOT NULL,
    member_id BLOB   NOT NULL,
    since_ms  BIGINT NOT NULL,
    pages     BIGINT NOT NULL,
    PRIMARY KEY (group_id, member_id)
);

-- Lines of the history that somebody shared: what the text is called there, and who gave it. They are not found as
-- messages by that name (0023): nobody has verified it.
CREATE TABLE shared_lines (
    group_id  BLOB   NOT NULL,
    device    BLOB   NOT NULL,
    client_id BLOB   NOT NULL,
    by_member BLOB   NOT NULL,
    row       BIGINT NOT NULL,
    PRIMARY KEY (group_id, device, client_id, by_member)
);
