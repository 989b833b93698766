-- Who serves a lane is kept in memory: the process holds the file for its life.
ALTER TABLE lanes DROP COLUMN lease_until;
