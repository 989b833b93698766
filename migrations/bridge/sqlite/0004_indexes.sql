-- Paused lanes keep their rows for as long as it takes: nobody walks past them.
DROP INDEX lanes_ready;
CREATE INDEX lanes_ready ON lanes (not_before) WHERE ready = 1 AND paused IS NULL;

-- Mostly empty, and looked at with every event.
CREATE INDEX portals_suspect ON portals (portal) WHERE suspect > 0;
CREATE INDEX portals_making ON portals (portal) WHERE state = 'making';

-- A suspect room takes out what waits of it, and only that.
CREATE INDEX inbox_of_room ON inbox (room_id) WHERE state = 0;
