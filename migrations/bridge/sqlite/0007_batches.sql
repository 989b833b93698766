-- Finished envelopes stand in the client's table `batches`, one batch for each group, with the rows
-- that they carry.
INSERT INTO batches (group_id, sealed, rows, kept_for)
SELECT portals.group_id, portal_batches.sealed,
    (SELECT json_group_array(id) FROM
        (SELECT id FROM portal_outbox WHERE batch = portal_batches.batch ORDER BY id)),
    portal_batches.lane
FROM portal_batches JOIN portals ON portal_batches.lane = 'portal/' || portals.portal || '/to_native'
WHERE EXISTS (SELECT 1 FROM portal_outbox WHERE batch = portal_batches.batch);

DROP INDEX portal_outbox_batch;
ALTER TABLE portal_outbox DROP COLUMN batch;
DROP TABLE portal_batches;
