-- What of one account waits is counted by whose it is.
CREATE INDEX envelopes_of ON envelopes (sender) WHERE sender IS NOT NULL;
