-- From where on nobody else has said yet that this database is the newest: how many commits it had
-- counted then.
CREATE TABLE uncompared (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    since BIGINT  NOT NULL
);
