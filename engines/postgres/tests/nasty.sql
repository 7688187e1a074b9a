-- A schema with one of everything that has ever been lost by a backup.
CREATE EXTENSION hstore;
CREATE EXTENSION btree_gist;
CREATE EXTENSION citext;
CREATE SCHEMA "Odd Schema; drop";
CREATE SCHEMA app AUTHORIZATION nasty_owner;
COMMENT ON SCHEMA app IS 'it''s an "app"';

CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'very happy');
CREATE TYPE app.address AS (street text, number int, tags text[]);
CREATE DOMAIN app.positive AS numeric(12, 3) CHECK (VALUE > 0);
-- since 14
CREATE TYPE app.span AS RANGE (subtype = float8);
-- end
CREATE COLLATION app.plain (LOCALE = 'C', PROVIDER = libc);

CREATE TABLE app.everything (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 7) PRIMARY KEY,
    small smallint, plain int, large bigint, exact numeric, real4 real, real8 double precision,
    flag boolean, short char(5), varied varchar(40), body text COLLATE app.plain, raw bytea,
    day date, clock time, clock_zone timetz, moment timestamp, moment_zone timestamptz,
    duration interval, identity uuid, doc json, docb jsonb, markup xml,
    numbers int[], matrix text[][], spans int4range,
    feeling app.mood, place app.address, amount app.positive, pairs hstore, nocase citext,
    network inet, block cidr, mac macaddr, bits bit(5), varbits bit varying, price money,
    spot point, shape polygon, search tsvector, query tsquery, position pg_lsn,
    doubled numeric GENERATED ALWAYS AS (exact * 2) STORED
);
INSERT INTO app.everything (small, plain, large, exact, real4, real8, flag, short, varied, body,
    raw, day, clock, clock_zone, moment, moment_zone, duration, identity, doc, docb, markup, numbers,
    matrix, spans, feeling, place, amount, pairs, nocase, network, block, mac, bits,
    varbits, price, spot, shape, search, query, position)
VALUES
    (-32768, -2147483648, 9223372036854775807, 'NaN', 'Infinity', '-Infinity', true, 'ab', '',
     E'tab\there\nnewline\r\\backslash \\. \\N é 漢字 🐘', '\x00ff5c0a0d5c2e', '4713-01-01 BC',
     '24:00', '23:59:59.999999+15:59', 'infinity', '-infinity', '-178000000 years',
     '00000000-0000-0000-0000-000000000000', '{"a" :  1, "a": 2}', '{"b": [null, 1e400]}',
     '<a>&amp;</a>', '{1,NULL,-3}', '{{a,"b,c"},{NULL,"\""}}', '(,5]',
     'very happy', ROW('a "b" street', NULL, '{x,"y z"}'), 0.001, 'a=>1, "b c"=>NULL', 'MiXed',
     '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', B'10101', B'', '-12.34', '(1e-300,-0)',
     '((0,0),(1,1),(1,0))', 'a:1A b:2', 'a & (b | !c)', '16/B374D848'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '\N', '\.', NULL, 'infinity', NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}', '{}', 'empty', NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- since 14
CREATE TABLE app.newer (multi int8multirange, floats app.span, exact numeric);
INSERT INTO app.newer VALUES ('{[1,3),[7,)}', '[1.5,2.5]', 'Infinity'), ('{}', 'empty', '-Infinity');
-- end
INSERT INTO app.everything (plain, exact, body)
SELECT n, n::numeric / 7, repeat(md5(n::text), n % 50) FROM generate_series(1, 3000) n;

CREATE TABLE "Odd Schema; drop"."tàble ""q"" % / .." ("sel""ect" int PRIMARY KEY, "über" text);
INSERT INTO "Odd Schema; drop"."tàble ""q"" % / .." VALUES (1, 'x'), (2, NULL);
CREATE TABLE public.no_columns ();
INSERT INTO public.no_columns DEFAULT VALUES;
CREATE TABLE public.empty (a int);
CREATE UNLOGGED TABLE public.unlogged (a int);
INSERT INTO public.unlogged VALUES (1);

-- Foreign keys in a circle.
CREATE TABLE app.chicken (id int PRIMARY KEY, egg int);
CREATE TABLE app.egg (id int PRIMARY KEY, chicken int REFERENCES app.chicken DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE app.chicken ADD FOREIGN KEY (egg) REFERENCES app.egg DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO app.chicken VALUES (1, 1);
INSERT INTO app.egg VALUES (1, 1);
COMMIT;
CREATE TABLE app.booking (
    room int, during tsrange, CHECK (room > 0),
    EXCLUDE USING gist (room WITH =, during WITH &&)
);
INSERT INTO app.booking VALUES (1, '[2020-01-01, 2020-01-02)');

CREATE SEQUENCE app.steps INCREMENT -3 MINVALUE -1000 MAXVALUE 50 START 50 CYCLE CACHE 5;
SELECT nextval('app.steps') FROM generate_series(1, 4);
CREATE TABLE app.serials (id serial, note text);
INSERT INTO app.serials (note) SELECT 'n' || g FROM generate_series(1, 10) g;

CREATE INDEX partial ON app.everything (plain) WHERE flag;
CREATE INDEX expression ON app.everything (lower(body), (exact + 1)) INCLUDE (id);
CREATE INDEX documents ON app.everything USING gin (docb jsonb_path_ops);
-- since 15
CREATE UNIQUE INDEX distinct_nulls ON app.everything (nocase) NULLS NOT DISTINCT WHERE nocase IS NOT NULL;
-- end
CREATE STATISTICS app.related (dependencies, ndistinct) ON plain, large FROM app.everything;
ALTER TABLE app.everything ALTER COLUMN body SET STATISTICS 500, ALTER COLUMN raw SET STORAGE EXTERNAL;
ALTER TABLE app.everything CLUSTER ON everything_pkey;

CREATE TABLE app.events (at timestamptz NOT NULL, kind int, payload text) PARTITION BY RANGE (at);
CREATE TABLE app.events_2024 PARTITION OF app.events
    FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE app.events_2024_1 PARTITION OF app.events_2024 FOR VALUES IN (1);
CREATE TABLE app.events_2024_rest PARTITION OF app.events_2024 DEFAULT;
CREATE TABLE app.events_default PARTITION OF app.events DEFAULT;
INSERT INTO app.events SELECT '2024-01-01'::timestamptz + g * '1 day'::interval, g % 3, 'p' || g
FROM generate_series(1, 500) g;
CREATE INDEX ON app.events (kind, at);
CREATE TABLE app.parent (a int);
CREATE TABLE app.child (b int) INHERITS (app.parent);
INSERT INTO app.child VALUES (1, 2);

CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    NEW.note := NEW.note || ' touched';
    RETURN NEW;
END $body$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON app.serials FOR EACH ROW EXECUTE FUNCTION app.touch();
ALTER TABLE app.serials DISABLE TRIGGER touch;
CREATE FUNCTION app.add(a int, b int DEFAULT 3) RETURNS int LANGUAGE sql IMMUTABLE STRICT
    SECURITY DEFINER SET search_path = app, pg_temp AS 'SELECT a + b';
CREATE PROCEDURE app.nothing() LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
CREATE AGGREGATE app.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE OPERATOR app.@+ (LEFTARG = int, RIGHTARG = int, FUNCTION = app.add);
CREATE CAST (app.mood AS int) WITH INOUT;
CREATE FUNCTION public.noticed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER noticed ON ddl_command_end EXECUTE FUNCTION public.noticed();

CREATE VIEW app.happy WITH (security_barrier) AS
    SELECT id, feeling FROM app.everything WHERE feeling = 'very happy' WITH CASCADED CHECK OPTION;
CREATE MATERIALIZED VIEW app.counted AS SELECT kind, count(*) FROM app.events GROUP BY kind;
CREATE UNIQUE INDEX ON app.counted (kind);
CREATE MATERIALIZED VIEW app.never AS SELECT 1 AS one WITH NO DATA;
CREATE RULE quiet AS ON DELETE TO app.booking DO INSTEAD NOTHING;
-- since 15
CREATE PUBLICATION changes FOR TABLE app.serials (id, note) WHERE (id > 3);
-- end

ALTER TABLE app.serials ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.serials FOR SELECT TO nasty_reader USING (id < 5);
GRANT USAGE ON SCHEMA app TO nasty_reader WITH GRANT OPTION;
GRANT SELECT (id, note), UPDATE (note) ON app.serials TO nasty_reader;
GRANT SELECT ON app.events TO PUBLIC;
GRANT EXECUTE ON FUNCTION app.add(int, int) TO nasty_reader;
REVOKE EXECUTE ON FUNCTION app.add(int, int) FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner IN SCHEMA app GRANT SELECT ON TABLES TO nasty_reader;
ALTER TABLE app.chicken OWNER TO nasty_owner;
ALTER TABLE app.egg OWNER TO nasty_owner;
COMMENT ON COLUMN app.everything.body IS 'a comment; with $$ and ''quotes''';
COMMENT ON TABLE "Odd Schema; drop"."tàble ""q"" % / .." IS E'line\nline';

SELECT lo_from_bytea(424242, decode(repeat('00ff5c0a', 20000), 'hex'));
SELECT lo_from_bytea(424243, '');
SELECT lo_from_bytea(424244, 'text');
ALTER LARGE OBJECT 424244 OWNER TO nasty_owner;
GRANT SELECT ON LARGE OBJECT 424244 TO nasty_reader;
COMMENT ON LARGE OBJECT 424242 IS 'bytes';
