CREATE TABLE nasty_settings (name text PRIMARY KEY, value text);
INSERT INTO nasty_settings VALUES ('shipped', 'with the extension');
CREATE TABLE nasty_private (a int);
INSERT INTO nasty_private VALUES (1);
CREATE SEQUENCE nasty_numbers;
SELECT pg_extension_config_dump('nasty_settings', $$WHERE name <> 'shipped'$$);
SELECT pg_extension_config_dump('nasty_numbers', '');
CREATE FUNCTION nasty_hello() RETURNS text LANGUAGE sql AS $$SELECT 'hello'$$;
