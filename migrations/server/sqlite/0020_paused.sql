-- Since when the operator lets nothing pass to and from the server; none: it does.
ALTER TABLE servers ADD COLUMN paused_ms BIGINT;
