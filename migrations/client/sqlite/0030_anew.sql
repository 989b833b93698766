-- Messages of one's own that another server could not put down any more, since it had taken somebody out of a
-- group with a shared key before they came: they are sealed anew, under the same client id.

-- What the server says that not all have; it is looked at why.
CREATE TABLE not_taken (
    group_id    BLOB NOT NULL,
    envelope_id BLOB NOT NULL,
    PRIMARY KEY (group_id, envelope_id)
);

-- Under which epoch it was sealed when it was accepted; NULL: that was not noted, and its content is gone.
ALTER TABLE outbox ADD COLUMN sealed_epoch BIGINT;
CREATE INDEX outbox_sealed ON outbox (group_id, envelope_id) WHERE sealed_epoch IS NOT NULL;
-- How often it was sealed anew since.
ALTER TABLE outbox ADD COLUMN anew BIGINT NOT NULL DEFAULT 0;
