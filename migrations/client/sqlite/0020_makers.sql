-- Who made a link, so that one of many makers does not fill the room for links that others give. None: held before this.
ALTER TABLE invites ADD COLUMN maker BLOB;
