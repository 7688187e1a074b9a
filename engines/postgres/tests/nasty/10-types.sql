-- Types of every kind, and a table with values at the edge of each.
CREATE EXTENSION hstore;
CREATE EXTENSION btree_gist;
CREATE EXTENSION citext;
CREATE SCHEMA app AUTHORIZATION nasty_owner;
COMMENT ON SCHEMA app IS 'it''s an "app"';

CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'very happy');
ALTER TYPE app.mood ADD VALUE 'it''s \ "so"' BEFORE 'ok';
ALTER TYPE app.mood OWNER TO nasty_owner;
COMMENT ON TYPE app.mood IS 'how it goes';
CREATE TYPE app.nothing_yet AS ENUM ();
CREATE TYPE app.address AS (street text COLLATE "C", number int, tags text[]);
CREATE TYPE app.person AS (name text, home app.address, moods app.mood[]);
COMMENT ON COLUMN app.address.street IS 'of a composite type';
CREATE DOMAIN app.positive AS numeric(12, 3) CHECK (VALUE > 0);
CREATE DOMAIN app.short AS varchar(10) COLLATE "C" DEFAULT 'none' NOT NULL
    CONSTRAINT not_empty CHECK (VALUE <> '') CONSTRAINT lower_case CHECK (VALUE = lower(VALUE));
CREATE DOMAIN app.few_positive AS app.positive[] CHECK (cardinality(VALUE) < 4);
CREATE DOMAIN app.small_positive AS app.positive CHECK (VALUE < 100);
COMMENT ON DOMAIN app.short IS 'short';
COMMENT ON CONSTRAINT not_empty ON DOMAIN app.short IS 'of a domain';
-- What 13 has of these, no newer server gives it: they name their multiranges.
-- since 14 or on 13
CREATE TYPE app.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TABLE app.spans (floats app.span, many app.span[]);
INSERT INTO app.spans VALUES ('[1.5,2.5]', '{"[1,2]",empty}'), ('empty', '{}'), (NULL, NULL);
GRANT USAGE ON TYPE app.span TO nasty_reader WITH GRANT OPTION;
-- end
-- since 14
CREATE TYPE app.words AS RANGE (subtype = text, collation = "C", multirange_type_name = app.many_words);
-- end

-- A type with input and output functions of its own.
CREATE TYPE app.int42;
CREATE FUNCTION app.int42_in(cstring) RETURNS app.int42 AS 'int4in' LANGUAGE internal STRICT IMMUTABLE;
CREATE FUNCTION app.int42_out(app.int42) RETURNS cstring AS 'int4out' LANGUAGE internal STRICT IMMUTABLE;
CREATE TYPE app.int42 (
    INPUT = app.int42_in, OUTPUT = app.int42_out, INTERNALLENGTH = 4, ALIGNMENT = int4,
    DEFAULT = 42, PASSEDBYVALUE, CATEGORY = 'N'
);

CREATE COLLATION app.plain (LOCALE = 'C', PROVIDER = libc);
CREATE COLLATION app.german (LOCALE = 'de_DE.utf8', PROVIDER = libc);
CREATE COLLATION app.phone_book (LOCALE = 'de-u-co-phonebk', PROVIDER = icu);
CREATE COLLATION app.any_case (LOCALE = 'und-u-ks-level2', PROVIDER = icu, DETERMINISTIC = false);
COMMENT ON COLLATION app.any_case IS 'A = a';
-- since 16
CREATE COLLATION app.rules (LOCALE = 'und', PROVIDER = icu, RULES = '&V << w <<< W');
-- end
-- since 17
CREATE COLLATION app.builtin (LOCALE = 'C.UTF-8', PROVIDER = builtin);
-- end

CREATE TABLE app.everything (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 7) PRIMARY KEY,
    small smallint, plain int, large bigint, exact numeric, real4 real, real8 double precision,
    flag boolean, short char(5), varied varchar(40), body text COLLATE app.plain, raw bytea,
    day date, clock time, clock_zone timetz, moment timestamp, moment_zone timestamptz,
    duration interval, identity uuid, doc json, docb jsonb, markup xml,
    numbers int[], matrix text[][], spans int4range,
-- since 14
    multi int8multirange,
-- end
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
     '00000000-0000-0000-0000-000000000000', '{"a" :  1, "a": 2, "zero": "\u0000"}',
     '{"b": [null, 1e400]}', '<a>&amp;</a>', '{1,NULL,-3}', '{{a,"b,c"},{NULL,"\""}}', '(,5]',
     'very happy', ROW('a "b" street', NULL, '{x,"y z"}'), 0.001,
     'a=>1, "b c"=>NULL', 'MiXed', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', B'10101', B'',
     '-92233720368547758.08', '(1e-300,-0)', '((0,0),(1,1),(1,0))', 'a:1A b:2', 'a & (b | !c)',
     '16/B374D848'),
    (NULL, NULL, NULL, '-0.000', 'NaN', 'NaN', NULL, NULL, '\N', '\.', NULL, 'infinity', NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}', '{}', 'empty', NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO app.everything (plain, exact, body)
SELECT n, n::numeric / 7, repeat(md5(n::text), n % 50) FROM generate_series(1, 3000) n;
-- since 14
UPDATE app.everything SET multi = '{[1,3),[7,)}' WHERE id = 100;
-- end

-- One row a value: what a text may look like.
CREATE TABLE app.edges (kind text, value text, PRIMARY KEY (kind, value));
INSERT INTO app.edges
SELECT 'one character', chr(n) FROM generate_series(1, 300) n
UNION ALL SELECT 'far character', chr(n) FROM generate_series(1000, 1114111, 4711) n
    WHERE n NOT BETWEEN 55296 AND 57343
UNION ALL SELECT 'of copy', v FROM unnest(ARRAY['\N', '\.', '\\.', E'\\.\n', E'\n\\.\n', E'\r', E'\r\n',
    E'a\r\nb', E'\\\n', '\x41', '\101', E'\\\t', '', ' ', '  ', 'NULL', '"', '''', E'\x08\x0b\x0c',
    '\restrict x', '\! true', E'\n\\unrestrict x\n', E'\nSELECT 1;\n', ';', '--', '/*', '$$']) v;
CREATE TABLE app.bytes (of text, raw bytea);
INSERT INTO app.bytes VALUES ('none', ''), ('zeros', '\x000000'), ('nothing', NULL), ('all', decode(
    (SELECT string_agg(lpad(to_hex(n), 2, '0'), '' ORDER BY n) FROM generate_series(0, 255) n), 'hex'));

CREATE TABLE app.extremes (
    exact numeric, scaled numeric(1000, 500), real8 double precision, day date, moment timestamp,
    moment_zone timestamptz, duration interval, fine interval second(0), clock timetz, price money
);
INSERT INTO app.extremes VALUES
    (repeat('9', 131072)::numeric, -1e499 + 1e-500, 1.7976931348623157e308, '5874897-12-31',
     '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00',
     '178956970 years 7 mons 2147483647 days 2147483647:59:59.999999', '1.6', '00:00+15:59:59',
     '92233720368547758.07'),
    ('1e-16383', '0', 5e-324, '4714-11-24 BC', '4714-11-24 00:00 BC', '4714-11-24 00:00+00 BC',
     '-178956970 years -8 mons -2147483648 days -2147483647:59:59.999999', '-1.4', '24:00-15:59:59',
     '-0.01'),
    ('NaN', NULL, '-0', '-infinity', '-infinity', 'infinity', '1 mon -1 day 00:00:00.000001', '0',
     '23:59:60', 0);
-- since 14
INSERT INTO app.extremes (exact) VALUES ('Infinity'), ('-Infinity');
-- end
-- since 15
INSERT INTO app.extremes (duration) VALUES ('2562047788:00:54.775807'), ('-2562047788:00:54.775807');
-- end
-- since 17
INSERT INTO app.extremes (duration) VALUES ('infinity'), ('-infinity');
-- end

CREATE TABLE app.rare (
    letter "char", called name, mac8 macaddr8, snapshot pg_snapshot, full_xid xid8, xid xid, place tid,
    number oid, relation regclass, routine regprocedure, of_type regtype, role regrole,
    configuration regconfig, path jsonpath, vector int2vector, oids oidvector, line line, segment lseg,
    area box, open path, closed path, round circle, own app.int42, person app.person,
    people app.person[], moods app.mood[], few app.few_positive, small app.small_positive,
    text_short app.short, bounds int[], cube int[][][], texts text[],
    own_case text COLLATE app.any_case, book text COLLATE app.phone_book
);
INSERT INTO app.rare VALUES (
    E'\x01', repeat('é', 31) || 'x', '08:00:2b:01:02:03:04:05', '10:20:10,14,15', '18446744073709551615',
    '4294967295', '(4294967294,65535)', 4294967295, 'app.everything', 'app.int42_in(cstring)',
    'app.person[]', 'nasty_owner', 'simple', 'strict $."a b"[*] ? (@ > 1)', '1 2 -3', '1 4294967295',
    '{1,-1,0}', '[(0,0),(1e300,-1e-300)]', '(Infinity,1),(0,-Infinity)', '[(0,0),(1,1)]',
    '((0,0),(1,1),(NaN,0))', '<(0,0),Infinity>', '-2147483648',
    ROW('a', ROW(E'b\n"c"', 1, '{}'), '{ok,"it''s \\ \"so\""}'), ARRAY[ROW(NULL, NULL, NULL), NULL]::app.person[],
    '{sad,NULL,"very happy"}', '{1,2.5,NULL}', 99.999, 'abc', '[-2:0]={1,2,3}',
    '[0:1][1:1][5:6]={{{1,2}},{{3,4}}}', '{NULL,"NULL","",null,"{}","a,b","\\","''"}', 'Größe', 'Ähre'
), ('', '', NULL, NULL, NULL, '3', NULL, 0, '-', '-', '-', '-', 'english', NULL, '', '', NULL, NULL, NULL,
    NULL, NULL, NULL, '0', ROW(NULL, NULL, NULL), '{}', '{}', NULL, NULL, 'none', '{}', NULL, '{NULL}', '', '');
-- Only nulls, and no value at all, are two things.
INSERT INTO app.rare (person, own, text_short) VALUES (NULL, NULL, DEFAULT);
-- since 14
CREATE TABLE app.many_ranges (words app.words, many app.many_words, days datemultirange);
INSERT INTO app.many_ranges VALUES ('[a,"b,c")', '{[a,b),["x y",)}', '{[2020-01-01,infinity)}'), ('empty', '{}', NULL);
-- end
-- Rows that their domain would not let in any more.
CREATE DOMAIN app.was_free AS int;
CREATE TABLE app.old_values (v app.was_free);
INSERT INTO app.old_values VALUES (-1), (1);
ALTER DOMAIN app.was_free ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID;
