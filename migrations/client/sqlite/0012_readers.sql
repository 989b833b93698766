-- Whether a Matrix user reads in the group through its bridge, as far as the bridge has said. Of those
-- that were met before, nobody knows: rather one too many is shown than one too few.
ALTER TABLE mirrors ADD COLUMN present INTEGER NOT NULL DEFAULT TRUE;
