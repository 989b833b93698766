-- Finished envelopes are looked for by group with every message, and numbered one after the other.
CREATE INDEX outgoing_order ON outgoing (seq);
CREATE INDEX outgoing_of_group ON outgoing (group_id, seq);

-- How much is held, of one sender and in all, is summed without reading what is held.
DROP INDEX holds_of_sender;
CREATE INDEX holds_of_sender ON holds (group_id, sender, bytes);
