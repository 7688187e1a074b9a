-- Functions and what is made of them; views, rules, triggers, text search, languages.
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    NEW.note := NEW.note || ' touched';
    RETURN NEW;
END $body$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON app.serials FOR EACH ROW EXECUTE FUNCTION app.touch();
ALTER TABLE app.serials DISABLE TRIGGER touch;
CREATE FUNCTION app.add(a int, b int DEFAULT 3) RETURNS int LANGUAGE sql IMMUTABLE STRICT
    SECURITY DEFINER SET search_path = app, pg_temp AS 'SELECT a + b';
CREATE FUNCTION app.many(INOUT a anyelement, VARIADIC rest anyarray, OUT n int) RETURNS SETOF record
    LANGUAGE plpgsql STABLE LEAKPROOF PARALLEL SAFE COST 7 ROWS 3
    SET work_mem = '5MB' SET "app.flavour" = 'it''s' SET search_path TO 'app', 'Odd Schema; drop', '' AS
    $$BEGIN n := cardinality(rest); RETURN NEXT; END -- \\ ' $$;
CREATE FUNCTION app.rows() RETURNS TABLE (id int, "the note" text) LANGUAGE sql AS
    'SELECT id, note FROM app.serials';
CREATE FUNCTION app."Odd ""name"" $$"("in ""a""" text DEFAULT E'\\ '' ') RETURNS text LANGUAGE sql AS
    $odd$SELECT $$ \\ ' $$ || $1$odd$;
CREATE FUNCTION app.rank_of() RETURNS bigint AS 'window_rank' LANGUAGE internal WINDOW;
CREATE PROCEDURE app.nothing() LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
CREATE PROCEDURE app.out_of(INOUT a int, b text DEFAULT NULL) LANGUAGE sql AS 'SELECT 1';
-- since 14
CREATE PROCEDURE app.out_only(OUT a int) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.atomic(n int) RETURNS SETOF app.serials LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT * FROM app.serials WHERE id < n;
END;
CREATE FUNCTION app.returned(n int) RETURNS int LANGUAGE sql RETURN app.add(n);
-- Depends on a primary key, and a view depends on it.
CREATE FUNCTION app.grouped() RETURNS SETOF text LANGUAGE sql
BEGIN ATOMIC
    SELECT f.body FROM app.everything f GROUP BY f.id;
END;
CREATE VIEW app.by_atomic AS SELECT * FROM app.grouped();
-- end
CREATE AGGREGATE app.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', COMBINEFUNC = int4pl,
    MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = int, PARALLEL = SAFE);
CREATE AGGREGATE app.within(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition,
    STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE OPERATOR app.@+ (LEFTARG = int, RIGHTARG = int, FUNCTION = app.add);
CREATE FUNCTION app.same(app.int42, app.int42) RETURNS boolean AS 'int4eq' LANGUAGE internal IMMUTABLE STRICT;
CREATE FUNCTION app.less(app.int42, app.int42) RETURNS boolean AS 'int4lt' LANGUAGE internal IMMUTABLE STRICT;
CREATE FUNCTION app.compared(app.int42, app.int42) RETURNS int AS 'btint4cmp' LANGUAGE internal IMMUTABLE STRICT;
CREATE OPERATOR app.=== (LEFTARG = app.int42, RIGHTARG = app.int42, FUNCTION = app.same,
    COMMUTATOR = OPERATOR(app.===), NEGATOR = OPERATOR(app.!==), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR app.<<< (LEFTARG = app.int42, RIGHTARG = app.int42, FUNCTION = app.less);
CREATE OPERATOR FAMILY app.of_int42 USING btree;
CREATE OPERATOR CLASS app.int42_ops DEFAULT FOR TYPE app.int42 USING btree FAMILY app.of_int42 AS
    OPERATOR 1 app.<<<, OPERATOR 3 app.===, FUNCTION 1 app.compared(app.int42, app.int42);
ALTER OPERATOR FAMILY app.of_int42 USING btree ADD FUNCTION 2 (int, int) btint4sortsupport(internal);
CREATE TABLE app.by_own (own app.int42);
INSERT INTO app.by_own VALUES ('3'), ('-1');
CREATE INDEX of_own ON app.by_own (own app.int42_ops);
CREATE CAST (app.mood AS int) WITH INOUT;
CREATE CAST (app.int42 AS int) WITHOUT FUNCTION AS IMPLICIT;
CREATE FUNCTION app.to_text(app.int42) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'own'$$;
CREATE CAST (app.int42 AS text) WITH FUNCTION app.to_text(app.int42) AS ASSIGNMENT;
CREATE TRANSFORM FOR int LANGUAGE sql (
    FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
CREATE FUNCTION app.own_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION app.own_inline(internal) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE FUNCTION app.own_validator(oid) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE pl_own HANDLER app.own_handler INLINE app.own_inline VALIDATOR app.own_validator;
CREATE FUNCTION app.in_own() RETURNS int LANGUAGE pl_own AS 'BEGIN RETURN 1; END';
CREATE DEFAULT CONVERSION app.own_conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE ACCESS METHOD heap_own TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE app.in_heap_own USING heap_own AS SELECT 1 AS a;

CREATE TEXT SEARCH PARSER app.own_parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
    LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE app.own_template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY app.own_words (TEMPLATE = simple, STOPWORDS = english, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION app.own_search (PARSER = app.own_parser);
ALTER TEXT SEARCH CONFIGURATION app.own_search ADD MAPPING FOR asciiword, email WITH app.own_words, simple;
CREATE TABLE app.searched (body text, words tsvector GENERATED ALWAYS AS (to_tsvector('app.own_search', body)) STORED);
INSERT INTO app.searched VALUES ('The quick a@b.example');

CREATE VIEW app.happy WITH (security_barrier) AS
    SELECT id, feeling FROM app.everything WHERE feeling = 'very happy' WITH CASCADED CHECK OPTION;
CREATE VIEW app.local_check AS SELECT * FROM app.happy WHERE id > 3 WITH LOCAL CHECK OPTION;
-- since 15
CREATE VIEW app.invoked WITH (security_invoker) AS SELECT * FROM app.serials;
-- end
CREATE RECURSIVE VIEW app.counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 9;
CREATE VIEW app.with_default AS SELECT room, gone FROM app.booking;
ALTER VIEW app.with_default ALTER COLUMN room SET DEFAULT 8;
CREATE VIEW app.by_key AS SELECT id, body, count(*) FROM app.everything GROUP BY id;
CREATE VIEW app.odd AS SELECT e AS "e ""x""", row_number() OVER w, t.* FROM app.edges e
    LEFT JOIN LATERAL (SELECT e.kind COLLATE "C" AS k) t ON true WINDOW w AS (ORDER BY e.value);
-- Two that need one another.
CREATE VIEW app.first_of_two AS SELECT 1 AS a;
CREATE VIEW app.second_of_two AS SELECT a FROM app.first_of_two;
CREATE OR REPLACE VIEW app.first_of_two AS SELECT a FROM app.second_of_two;
CREATE FUNCTION app.of_view(app.happy) RETURNS bigint LANGUAGE sql AS 'SELECT $1.id';
CREATE VIEW app.of_function AS SELECT app.of_view(h) FROM app.happy h;
CREATE MATERIALIZED VIEW app.counted AS SELECT kind, count(*) FROM app.events GROUP BY kind;
CREATE UNIQUE INDEX ON app.counted (kind);
CREATE MATERIALIZED VIEW app.before_counted WITH (fillfactor = 40) AS SELECT * FROM app.counted WHERE count > 1;
CREATE MATERIALIZED VIEW app.after_all AS SELECT b.*, c.count AS again FROM app.before_counted b JOIN app.counted c USING (kind);
CREATE MATERIALIZED VIEW app.never AS SELECT 1 AS one WITH NO DATA;
CREATE MATERIALIZED VIEW app.of_never AS SELECT one FROM app.never WITH NO DATA;
CREATE INDEX ON app.never (one);
CREATE MATERIALIZED VIEW app."Odd view" AS SELECT * FROM "Odd Schema; drop"."tàble ""q"" % / ..";

CREATE TABLE app.ruled (a int, b text);
CREATE TABLE app.empty_log (a int);
CREATE RULE also AS ON INSERT TO app.ruled WHERE NEW.a > 3 DO ALSO (INSERT INTO app.empty_log VALUES (NEW.a); DELETE FROM app.empty_log WHERE a = -1);
CREATE RULE "re; name" AS ON UPDATE TO app.ruled DO INSTEAD UPDATE app.ruled SET b = 'x' WHERE false RETURNING *;
CREATE RULE "_other" AS ON DELETE TO app.ruled DO ALSO NOTHING;
CREATE RULE into_view AS ON INSERT TO app.with_default DO INSTEAD INSERT INTO app.booking (room) VALUES (NEW.room);
ALTER TABLE app.ruled DISABLE RULE "_other";
ALTER TABLE app.ruled ENABLE ALWAYS RULE also;

CREATE TABLE app.log (what text);
CREATE FUNCTION app.note_it() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    INSERT INTO app.log VALUES (TG_NAME || coalesce(TG_ARGV[0], ''));
    RETURN NULL;
END$$;
CREATE TABLE app.watched (a int PRIMARY KEY, b text);
INSERT INTO app.watched VALUES (1, 'one');
CREATE TRIGGER "after; it" AFTER UPDATE OF b ON app.watched FOR EACH ROW
    WHEN (OLD.b IS DISTINCT FROM NEW.b) EXECUTE FUNCTION app.note_it('it''s', E'\\ \n', '', '$1');
CREATE TRIGGER with_tables AFTER UPDATE ON app.watched REFERENCING OLD TABLE AS old_rows NEW TABLE AS "new rows"
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_it();
CREATE TRIGGER emptied AFTER TRUNCATE ON app.watched EXECUTE FUNCTION app.note_it();
CREATE CONSTRAINT TRIGGER constrained AFTER INSERT OR DELETE ON app.watched FROM app.serials
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note_it();
CREATE TRIGGER always AFTER INSERT ON app.watched FOR EACH ROW EXECUTE FUNCTION app.note_it();
CREATE TRIGGER on_replica AFTER INSERT ON app.watched FOR EACH ROW EXECUTE FUNCTION app.note_it();
CREATE TRIGGER never AFTER INSERT ON app.watched FOR EACH ROW EXECUTE FUNCTION app.note_it();
ALTER TABLE app.watched ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER on_replica, DISABLE TRIGGER never;
CREATE TRIGGER instead INSTEAD OF INSERT ON app.happy FOR EACH ROW EXECUTE FUNCTION app.note_it();
CREATE TRIGGER of_all AFTER INSERT ON app.hashed_by FOR EACH ROW EXECUTE FUNCTION app.note_it();
ALTER TABLE app.hashed_by_1 DISABLE TRIGGER of_all;

COMMENT ON FUNCTION app.add(int, int) IS 'of a function';
COMMENT ON PROCEDURE app.nothing() IS 'of a procedure';
COMMENT ON AGGREGATE app.total(int) IS 'of an aggregate';
COMMENT ON OPERATOR app.@+ (int, int) IS 'of an operator';
COMMENT ON OPERATOR CLASS app.int42_ops USING btree IS 'of a class';
COMMENT ON OPERATOR FAMILY app.of_int42 USING btree IS 'of a family';
COMMENT ON CAST (app.int42 AS int) IS 'of a cast';
COMMENT ON TRANSFORM FOR int LANGUAGE sql IS 'of a transform';
COMMENT ON LANGUAGE pl_own IS 'of a language';
COMMENT ON CONVERSION app.own_conversion IS 'of a conversion';
COMMENT ON ACCESS METHOD heap_own IS 'of an access method';
COMMENT ON TEXT SEARCH PARSER app.own_parser IS 'of a parser';
COMMENT ON TEXT SEARCH TEMPLATE app.own_template IS 'of a template';
COMMENT ON TEXT SEARCH DICTIONARY app.own_words IS 'of a dictionary';
COMMENT ON TEXT SEARCH CONFIGURATION app.own_search IS 'of a configuration';
COMMENT ON VIEW app.happy IS 'of a view';
COMMENT ON COLUMN app.happy.feeling IS 'of a view''s column';
COMMENT ON MATERIALIZED VIEW app.counted IS 'of a materialised view';
COMMENT ON RULE also ON app.ruled IS 'of a rule';
COMMENT ON TRIGGER always ON app.watched IS 'of a trigger';
