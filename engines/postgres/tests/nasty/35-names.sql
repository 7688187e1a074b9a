-- Objects whose names are as bad as they may be: a schema for each, and in it
-- a table with all that goes with it, all of that name.
DO $do$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'dot.name', '..', 'sla/sh', '/', 'quo"te', '"', 'apos''trophe', 'back\slash', '\', E'new\nline',
        E'new\n-- line', E'return\rd', E'tab\tstop', 'per%cent', '%41', 'A', 'a', ' ', ' space ', '🐘 elephant',
        repeat('é', 31) || 'x', repeat('🐘', 15) || 'abc', 'select', 'public.t', '-- comment', '/* comment',
        '$$', '$1', ':colon', ':''colon''', '\restrict x', E'\n\\! true', '{}', '?*', 'a=b', 'postgres://x', '☃'
    ] LOOP
        EXECUTE format('CREATE SCHEMA %I', name);
        EXECUTE format('SET LOCAL search_path TO %I', name);
        EXECUTE format('CREATE TYPE %I AS ENUM (%L)', left(name, 12) || 't', name);
        EXECUTE format('CREATE FUNCTION %1$I(%1$I int) RETURNS int LANGUAGE sql IMMUTABLE AS %2$L',
            name, 'SELECT 1');
        EXECUTE format('CREATE TABLE %1$I (%1$I text DEFAULT %2$L, id serial, CONSTRAINT %1$I CHECK (%1$I <> %3$L))',
            name, name, name || 'x');
        EXECUTE format('INSERT INTO %I DEFAULT VALUES', name);
        EXECUTE format('CREATE INDEX %I ON %I (%I)', left(name, 12) || 'i', name, name);
        EXECUTE format('CREATE STATISTICS %1$I ON %1$I, id FROM %1$I', name);
        EXECUTE format('CREATE VIEW %I AS SELECT %I FROM %I', left(name, 12) || 'v', name, name);
        EXECUTE format('CREATE POLICY %1$I ON %1$I USING (%1$I(1) = 1)', name);
        EXECUTE format('CREATE TRIGGER %1$I BEFORE UPDATE OF %1$I ON %1$I FOR EACH ROW
            EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger(%2$L)', name, name);
        EXECUTE format('COMMENT ON TABLE %I IS %L', name, name);
        EXECUTE format('COMMENT ON COLUMN %1$I.%1$I IS %2$L', name, name);
        EXECUTE format('GRANT SELECT (%1$I) ON %1$I TO nasty_reader', name);
    END LOOP;
END$do$;
