-- Invites that ended long ago are forgotten, with who used them.
CREATE INDEX invites_by_expiry ON invites (expires_ms);
