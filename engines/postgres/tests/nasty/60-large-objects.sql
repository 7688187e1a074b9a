-- Large objects: several, of several owners, and more than one entry of an archive holds.
SELECT lo_from_bytea(424242, decode(repeat('00ff5c0a', 20000), 'hex'));
SELECT lo_from_bytea(424243, '');
SELECT lo_from_bytea(424244, 'text');
SELECT lo_from_bytea(n, 'beyond the half: ' || n::text::bytea) FROM unnest('{2147483647,2147483648,3000000000,4294967295}'::oid[]) n;
-- A hole that was never written.
SELECT lo_create(424245);
SELECT lo_put(424245, 100000, 'end');
ALTER LARGE OBJECT 424244 OWNER TO nasty_owner;
ALTER LARGE OBJECT 424245 OWNER TO nasty_owner;
GRANT SELECT ON LARGE OBJECT 424244 TO nasty_reader WITH GRANT OPTION;
GRANT SELECT, UPDATE ON LARGE OBJECT 424243 TO PUBLIC;
REVOKE ALL ON LARGE OBJECT 424245 FROM nasty_owner;
COMMENT ON LARGE OBJECT 424242 IS 'bytes';
COMMENT ON LARGE OBJECT 424244 IS 'it''s text';
SELECT count(lo_from_bytea(500000 + n, convert_to(n::text, 'UTF8'))) FROM generate_series(1, 1100) n;
