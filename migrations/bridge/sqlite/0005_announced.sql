-- Nobody read it: who came is told of all mirrors in the transaction that shows his coming.
ALTER TABLE portals DROP COLUMN announced_epoch;
