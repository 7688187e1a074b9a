-- Who may do what, publications and subscriptions, foreign data, event triggers.
ALTER TABLE app.serials ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.serials FOR SELECT TO nasty_reader USING (id < 5);
CREATE TABLE app.guarded (a int, b text DEFAULT current_user);
INSERT INTO app.guarded VALUES (1, 'postgres'), (2, 'nobody');
ALTER TABLE app.guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, OWNER TO nasty_owner;
CREATE POLICY "not; all" ON app.guarded AS RESTRICTIVE TO nasty_reader, nasty_group USING (b = current_user) WITH CHECK (a > 0);
CREATE POLICY everybody ON app.guarded FOR UPDATE TO PUBLIC USING (EXISTS (SELECT FROM app.watched WHERE a = guarded.a));
CREATE POLICY none ON app.watched FOR INSERT WITH CHECK (false);
COMMENT ON POLICY none ON app.watched IS 'of a policy';

GRANT USAGE ON SCHEMA app TO nasty_reader WITH GRANT OPTION;
GRANT SELECT (id, note), UPDATE (note) ON app.serials TO nasty_reader;
GRANT INSERT (note) ON app.serials TO nasty_reader WITH GRANT OPTION;
GRANT SELECT ON app.events TO PUBLIC;
GRANT ALL ON app.watched TO nasty_reader WITH GRANT OPTION;
-- Granted on, by whom it was granted to.
SET ROLE nasty_reader;
GRANT SELECT, TRIGGER ON app.watched TO nasty_group;
GRANT INSERT (note) ON app.serials TO nasty_group;
GRANT USAGE ON SCHEMA app TO nasty_group;
RESET ROLE;
REVOKE ALL ON app.chicken FROM nasty_owner;
GRANT SELECT, REFERENCES, DELETE, TRIGGER, TRUNCATE ON app.chicken TO nasty_owner;
REVOKE ALL ON app.egg FROM nasty_owner;
GRANT USAGE, SELECT ON SEQUENCE app.steps TO nasty_reader;
GRANT EXECUTE ON FUNCTION app.add(int, int) TO nasty_reader;
REVOKE EXECUTE ON FUNCTION app.add(int, int) FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE app.nothing() FROM PUBLIC, CURRENT_USER;
REVOKE USAGE ON TYPE app.mood FROM PUBLIC;
REVOKE USAGE ON DOMAIN app.short FROM PUBLIC;
GRANT USAGE ON TYPE app.address TO nasty_reader WITH GRANT OPTION;
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
REVOKE ALL ON LANGUAGE pl_own FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO nasty_group;
COMMENT ON SCHEMA public IS 'ours now';
-- The server's own.
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO nasty_reader;
GRANT SELECT (rolname) ON pg_catalog.pg_authid TO nasty_reader;
REVOKE SELECT ON pg_catalog.pg_settings FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner IN SCHEMA app GRANT SELECT ON TABLES TO nasty_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_group GRANT USAGE ON SCHEMAS TO nasty_reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_group REVOKE USAGE ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA "Odd Schema; drop" GRANT ALL ON SEQUENCES TO nasty_reader;
-- since 17
GRANT MAINTAIN ON app.booking TO nasty_reader;
-- end
-- since 18
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner GRANT SELECT ON LARGE OBJECTS TO nasty_reader;
-- end

-- Extensions: one in a schema of its own choice, with rows of ours in its tables.
CREATE SCHEMA ext;
CREATE EXTENSION pg_trgm SCHEMA ext;
CREATE EXTENSION dbbackup_nasty SCHEMA "Odd Schema; drop";
INSERT INTO "Odd Schema; drop".nasty_settings VALUES ('ours', E'tab\t'), ('theirs too', NULL);
SELECT setval('"Odd Schema; drop".nasty_numbers', 77);
GRANT SELECT ON "Odd Schema; drop".nasty_settings TO nasty_reader;
COMMENT ON EXTENSION pg_trgm IS 'three letters';
CREATE INDEX similar_body ON app.everything USING gist (body ext.gist_trgm_ops (siglen = 32));

-- Foreign data that nobody reads: nothing listens there.
CREATE EXTENSION postgres_fdw;
CREATE FOREIGN DATA WRAPPER plain_wrapper OPTIONS (debug 'it''s "true"');
CREATE SERVER nowhere TYPE 'a "type"' VERSION '1.0' FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host '127.0.0.1', port '1', dbname 'no;such "one"');
ALTER SERVER nowhere OWNER TO nasty_owner;
CREATE SERVER "plain; one" FOREIGN DATA WRAPPER plain_wrapper;
GRANT USAGE ON FOREIGN DATA WRAPPER plain_wrapper TO nasty_reader;
GRANT USAGE ON FOREIGN SERVER nowhere TO nasty_reader WITH GRANT OPTION;
CREATE USER MAPPING FOR PUBLIC SERVER nowhere OPTIONS (user 'u', password 'it''s \ "secret"');
CREATE USER MAPPING FOR nasty_reader SERVER nowhere OPTIONS (user 'r', password_required 'false');
CREATE USER MAPPING FOR CURRENT_USER SERVER "plain; one";
CREATE FOREIGN TABLE app.far (
    id int OPTIONS (column_name 'odd "id"') NOT NULL, body text COLLATE "C" DEFAULT 'x', CHECK (id > 0)
) SERVER nowhere OPTIONS (schema_name 'a', table_name 'it''s');
CREATE FOREIGN TABLE app.mixed_far PARTITION OF app.mixed FOR VALUES IN (2) SERVER nowhere;
CREATE TRIGGER of_far BEFORE INSERT ON app.far FOR EACH ROW EXECUTE FUNCTION app.touch();
GRANT SELECT (id) ON app.far TO nasty_reader;
COMMENT ON FOREIGN DATA WRAPPER plain_wrapper IS 'of a wrapper';
COMMENT ON SERVER nowhere IS 'of a server';
COMMENT ON FOREIGN TABLE app.far IS 'of a foreign table';

-- Publications, and a subscription that would connect to nowhere.
CREATE PUBLICATION changes FOR TABLE app.watched, app.identified WITH (publish = 'insert, delete');
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root);
CREATE PUBLICATION "of; nothing";
ALTER PUBLICATION changes OWNER TO nasty_owner;
COMMENT ON PUBLICATION changes IS 'of a publication';
-- since 15
CREATE PUBLICATION some_rows FOR TABLE app.serials (id, note) WHERE (id > 3);
CREATE PUBLICATION of_schemas FOR TABLE app.serials WHERE (id > 3), TABLES IN SCHEMA "Odd Schema; drop", CURRENT_SCHEMA;
-- end
-- since 18
CREATE PUBLICATION with_generated FOR TABLE app.made WITH (publish_generated_columns = stored);
-- end
-- What newer servers say of any subscription, 13 does not understand.
-- since 14 or on 13
CREATE SUBSCRIPTION "from; nowhere" CONNECTION 'host=127.0.0.1 port=1 dbname=x password=secret'
    PUBLICATION a, "b; c" WITH (connect = false, slot_name = 'its_slot', synchronous_commit = remote_apply);
ALTER SUBSCRIPTION "from; nowhere" ENABLE;
CREATE SUBSCRIPTION idle CONNECTION 'host=127.0.0.1 port=1' PUBLICATION a WITH (connect = false, slot_name = NONE);
COMMENT ON SUBSCRIPTION idle IS 'of a subscription';
-- end

-- Event triggers: one forbids what a restore does last, one would be heard.
CREATE TABLE app.heard (tag text, object text);
CREATE FUNCTION public.forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
    RAISE EXCEPTION 'no % here', TG_TAG;
END$$;
CREATE FUNCTION public.hear() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
    INSERT INTO app.heard SELECT TG_TAG, object_identity FROM pg_event_trigger_ddl_commands();
END$$;
CREATE EVENT TRIGGER never ON sql_drop EXECUTE FUNCTION public.forbid();
ALTER EVENT TRIGGER never DISABLE;
CREATE EVENT TRIGGER on_replica ON ddl_command_end EXECUTE FUNCTION public.forbid();
ALTER EVENT TRIGGER on_replica ENABLE REPLICA;
CREATE EVENT TRIGGER "hears; it" ON ddl_command_end EXECUTE FUNCTION public.hear();
ALTER EVENT TRIGGER "hears; it" ENABLE ALWAYS;
-- since 17
-- Whoever comes is sent away: only a session that switches it off may look.
CREATE FUNCTION public.at_the_door() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
    INSERT INTO app.heard VALUES (TG_TAG, session_user);
END$$;
CREATE EVENT TRIGGER comes_in ON login EXECUTE FUNCTION public.at_the_door();
ALTER EVENT TRIGGER comes_in ENABLE REPLICA;
-- end
CREATE EVENT TRIGGER forbids ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'REFRESH MATERIALIZED VIEW')
    EXECUTE FUNCTION public.forbid();
ALTER EVENT TRIGGER forbids ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER forbids IS 'of an event trigger';
TRUNCATE app.heard;
