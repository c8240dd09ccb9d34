-- What a careless reader of dumps would trip over.
CREATE SCHEMA "we.ird ""schema""";
CREATE TABLE "we.ird ""schema"""."ta.ble; with
newline" ("col one" int, "a""b" text);
INSERT INTO "we.ird ""schema"""."ta.ble; with
newline" SELECT g, E'line\nwith \\ and \t' FROM generate_series(1, 5) g;
CREATE TABLE "Größe 表" (id int GENERATED ALWAYS AS IDENTITY, v int, d int GENERATED ALWAYS AS (v * 2) STORED);
INSERT INTO "Größe 表" (v) SELECT generate_series(1, 7);

-- Tables without columns, and without columns that are dumped.
CREATE TABLE nocols ();
INSERT INTO nocols DEFAULT VALUES;
INSERT INTO nocols DEFAULT VALUES;
CREATE TABLE onlygen (d int GENERATED ALWAYS AS (5) STORED);
INSERT INTO onlygen DEFAULT VALUES;

-- Families of tables.
CREATE TABLE parent (a int);
CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2, 3), (4, 5);
CREATE TABLE part (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20) PARTITION BY LIST (k);
CREATE TABLE part_2a PARTITION OF part_2 DEFAULT;
INSERT INTO part SELECT g, 'x' FROM generate_series(0, 19) g;
CREATE TYPE mood AS ENUM ('a', 'b', 'c');
CREATE TABLE hashed (m mood, v int) PARTITION BY HASH (m);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT (ARRAY['a', 'b', 'c']::mood[])[1 + g % 3], g FROM generate_series(1, 9) g;
CREATE UNLOGGED TABLE unlogged (a int);
INSERT INTO unlogged VALUES (1);
CREATE MATERIALIZED VIEW mv AS SELECT 1 AS x;
CREATE TABLE key (id int PRIMARY KEY);
CREATE TABLE foreign_key (id int REFERENCES key);

-- Data and texts that look like parts of a dump.
CREATE TABLE bin (b bytea, t text);
INSERT INTO bin VALUES ('\x0001ff5c2e0a', E'\\.'), ('\x', E'\n\\.\n'), (NULL, '-- PostgreSQL database dump complete');
CREATE TABLE one (t text);
INSERT INTO one VALUES (E'\\.'), (''), (NULL), ('COPY x FROM stdin;');
SELECT lo_from_bytea(0, decode(repeat('ab', 5000), 'hex'));
CREATE FUNCTION fool() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN RETURN 'x
COPY public.parent (a) FROM stdin;
1
2
\.
-- PostgreSQL database dump complete
it''s $$
'; END $f$;
CREATE VIEW v AS SELECT E'a\\\nCOPY public.parent (a) FROM stdin;\n1\n\\.\n''' AS t, 'plain
COPY public.parent (a) FROM stdin;
3
\.
' AS u;
COMMENT ON TABLE parent IS 'it''s
COPY public.child (a) FROM stdin;
\.
';
COMMENT ON TABLE child IS E'back\\';

-- What belongs to an extension is not dumped, except what it marked as configuration.
CREATE EXTENSION hstore;
CREATE TABLE config (k text);
INSERT INTO config VALUES ('own'), ('built in');
CREATE TABLE internal (k text);
ALTER EXTENSION hstore ADD TABLE config;
ALTER EXTENSION hstore ADD TABLE internal;
UPDATE pg_extension SET extconfig = ARRAY['config'::regclass::oid], extcondition = ARRAY['WHERE k = ''own''']
    WHERE extname = 'hstore';
CREATE SCHEMA extended;
CREATE TABLE extended.own (a int);
INSERT INTO extended.own VALUES (1);
ALTER EXTENSION hstore ADD SCHEMA extended;
