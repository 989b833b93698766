-- Nobody read it: the version stands in the list itself.
ALTER TABLE accounts DROP COLUMN list_version;
