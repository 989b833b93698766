-- What a device cannot hold yet stands apart: it is not read, and nothing waits behind it.
CREATE TABLE parked (
    device    BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    envelope  BIGINT NOT NULL,
    grp       BIGINT NOT NULL,
    sender    BIGINT NOT NULL,
    bytes     BIGINT NOT NULL,                 -- of payload and piece
    piece     BLOB,                            -- of a fan-out: this device's part
    taken_seq BIGINT,                          -- up to where the device had acknowledged when it took it
    taken_ms  BIGINT,                          -- and when: kept since, where what is read is kept
    PRIMARY KEY (device, seq)
) WITHOUT ROWID;
CREATE INDEX parked_of ON parked (device, sender, grp, seq);
CREATE INDEX parked_by_envelope ON parked (envelope);
CREATE INDEX parked_in ON parked (grp, device);
CREATE INDEX parked_taken ON parked (taken_ms) WHERE taken_ms IS NOT NULL;

-- What was to be parked, and was over its sender's limit there.
CREATE TABLE refused (
    device        BIGINT NOT NULL,
    seq           BIGINT NOT NULL,
    keep_until_ms BIGINT NOT NULL,
    PRIMARY KEY (device, seq)
) WITHOUT ROWID;
CREATE INDEX refused_by_age ON refused (keep_until_ms);
