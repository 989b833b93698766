-- Who an account is, in all groups: the identity that it had at first contact, or that a person has
-- taken since. Other identities that were shown for it stay here too, so that each is said once.
CREATE TABLE identities (
    account   TEXT   NOT NULL,
    member_id BLOB   NOT NULL,
    standing  TEXT   NOT NULL,        -- 'pinned', 'verified'; 'seen': to be decided; 'former': decided
    since_ms  BIGINT NOT NULL,
    PRIMARY KEY (account, member_id)
);
CREATE UNIQUE INDEX identities_of_account ON identities (account)
    WHERE standing IN ('pinned', 'verified');
CREATE UNIQUE INDEX identities_of_member ON identities (member_id)
    WHERE standing IN ('pinned', 'verified');

-- Random, new with every change of `identities`. NULL: the members of the rosters that were here
-- before it are to be asked for.
ALTER TABLE own ADD COLUMN met BLOB;
-- They are asked for at once, whoever was asked for lately.
DELETE FROM asked WHERE what = 'account';
