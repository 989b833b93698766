-- What one account has of what is kept: the groups that it began, its open invites, whom it adds.
-- Of groups from before, nobody knows who began them but their ops: they count for nobody.
ALTER TABLE groups ADD COLUMN creator TEXT;
CREATE INDEX groups_by_creator ON groups (creator) WHERE closed = FALSE;
CREATE INDEX invites_by_account ON invites (account, expires_ms) WHERE revoked = FALSE;
CREATE INDEX group_members_by_account ON group_members (account, grp);
CREATE INDEX join_requests_by_member ON join_requests (grp, member_id);
-- When those who may admit were last told that somebody asks by this link.
ALTER TABLE invite_uses ADD COLUMN told_ms BIGINT;
