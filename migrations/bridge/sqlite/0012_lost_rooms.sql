-- Why nothing gets into the portal's room any more; NULL while all is well.
ALTER TABLE portals ADD COLUMN lost TEXT;

-- The room that the portal's room was replaced by, while the bridge is not in it.
ALTER TABLE portals ADD COLUMN successor TEXT;
-- The event that told the room that it is bridged again: what was said before it goes nowhere.
ALTER TABLE portals ADD COLUMN hears_from TEXT;
CREATE INDEX portals_successor ON portals (successor) WHERE successor IS NOT NULL;
