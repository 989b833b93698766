-- Nobody read them: what they say stands in the JSON beside them.
ALTER TABLE one_time_keys DROP COLUMN fallback;
ALTER TABLE accounts DROP COLUMN version;
ALTER TABLE devices DROP COLUMN member_id;
ALTER TABLE devices DROP COLUMN curve25519;
