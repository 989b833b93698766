-- What a fan-out is called as a whole, so that its sender can be told of it; none of every other
-- envelope, and of fan-outs that were there before this was kept.
ALTER TABLE envelopes ADD COLUMN whole_id BLOB;
