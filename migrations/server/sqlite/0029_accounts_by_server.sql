-- Accounts of other servers that no group has named, of each server the newest alone.
ALTER TABLE remote_accounts ADD COLUMN server TEXT NOT NULL DEFAULT '';
ALTER TABLE remote_accounts ADD COLUMN named BOOLEAN NOT NULL DEFAULT FALSE;  -- a group names it, or did
UPDATE remote_accounts SET server = substr(account, instr(account, ':') + 1),
    named = EXISTS (SELECT 1 FROM devices d WHERE d.account = remote_accounts.account);
CREATE INDEX remote_accounts_unnamed ON remote_accounts (server, asked_ms) WHERE named = FALSE;
DROP INDEX remote_accounts_by_age;
