-- Why a device did not take a row that is no more parked: too much of its sender was, or its account left the group.
ALTER TABLE refused ADD COLUMN has_left BOOLEAN NOT NULL DEFAULT FALSE;
