-- Partitions and inheritance.
CREATE TABLE app.events (at timestamptz NOT NULL, kind int, payload text) PARTITION BY RANGE (at);
CREATE TABLE app.events_2024 PARTITION OF app.events
    FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE app.events_2024_1 PARTITION OF app.events_2024 FOR VALUES IN (1);
CREATE TABLE app.events_2024_rest PARTITION OF app.events_2024 DEFAULT;
CREATE TABLE app.events_default PARTITION OF app.events DEFAULT;
INSERT INTO app.events SELECT '2024-01-01'::timestamptz + g * '1 day'::interval, g % 3, 'p' || g
FROM generate_series(1, 500) g;
CREATE INDEX ON app.events (kind, at);
COMMENT ON TABLE app.events_2024 IS 'of a partition';

-- Attached: other columns in between, another order, a schema and an owner of its own.
CREATE TABLE app.parts (
    id int NOT NULL, at date NOT NULL, note text DEFAULT 'root', amount numeric CHECK (amount > 0),
    twice int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id, at)
) PARTITION BY RANGE (at, id);
CREATE TABLE "Odd Schema; drop"."part; one" (
    gone int, note text DEFAULT 'leaf', amount numeric, at date NOT NULL, also_gone text, id int NOT NULL,
    twice int GENERATED ALWAYS AS (id * 2) STORED,
    CONSTRAINT parts_amount_check CHECK (amount > 0), CHECK (length(note) < 99)
);
ALTER TABLE "Odd Schema; drop"."part; one" DROP COLUMN gone, DROP COLUMN also_gone;
ALTER TABLE "Odd Schema; drop"."part; one" ALTER note SET STATISTICS 9, OWNER TO nasty_owner;
ALTER TABLE app.parts ATTACH PARTITION "Odd Schema; drop"."part; one"
    FOR VALUES FROM ('2024-01-01', MINVALUE) TO ('2024-12-31', 5);
CREATE TABLE app.parts_rest PARTITION OF app.parts (note DEFAULT 'rest', CONSTRAINT own CHECK (id < 1000))
    DEFAULT WITH (fillfactor = 50);
INSERT INTO app.parts (at, id, amount) VALUES ('2024-05-05', 1, 1.5), ('2024-12-31', 4, 2), ('1999-01-01', 7, NULL);
INSERT INTO "Odd Schema; drop"."part; one" (id, at) VALUES (2, '2024-06-06');
CREATE TABLE app.of_parts (id int, at date, FOREIGN KEY (id, at) REFERENCES app.parts ON DELETE CASCADE);
INSERT INTO app.of_parts VALUES (1, '2024-05-05');
CREATE TABLE app.nine (id int PRIMARY KEY);
INSERT INTO app.nine SELECT generate_series(1, 9);
ALTER TABLE app.parts ADD FOREIGN KEY (id) REFERENCES app.nine;
CREATE TABLE app.detached PARTITION OF app.parts FOR VALUES FROM ('2030-01-01', 0) TO ('2031-01-01', 0);
ALTER TABLE app.parts DETACH PARTITION app.detached;
-- An index of the root that one partition lacks is not valid, and stays so.
CREATE INDEX "on the root only" ON ONLY app.parts (amount);
CREATE INDEX "on a leaf" ON app.parts_rest (amount);
ALTER INDEX app."on the root only" ATTACH PARTITION app."on a leaf";

CREATE TABLE app.hashed_by (k text, v int) PARTITION BY HASH (k, v);
CREATE TABLE app.hashed_by_0 PARTITION OF app.hashed_by FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE app.hashed_by_1 PARTITION OF app.hashed_by FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE app.hashed_by_2 PARTITION OF app.hashed_by FOR VALUES WITH (MODULUS 6, REMAINDER 2);
CREATE TABLE app.hashed_by_5 PARTITION OF app.hashed_by FOR VALUES WITH (MODULUS 6, REMAINDER 5);
INSERT INTO app.hashed_by SELECT 'k' || g, g FROM generate_series(1, 60) g;
-- An enum's values have other numbers in another database: these rows are loaded by way of the root.
CREATE TABLE app.by_mood (feeling app.mood, v int) PARTITION BY HASH (feeling);
CREATE TABLE app.by_mood_0 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO app.by_mood SELECT m, g FROM unnest(enum_range(NULL::app.mood)) m, generate_series(1, 5) g;
CREATE TABLE app.listed (k text COLLATE "C", v int) PARTITION BY LIST (lower(k));
CREATE TABLE app.listed_ab PARTITION OF app.listed FOR VALUES IN ('a', 'b''s', NULL);
CREATE TABLE app.listed_rest PARTITION OF app.listed DEFAULT PARTITION BY RANGE ((v % 10));
CREATE TABLE app.listed_rest_low PARTITION OF app.listed_rest FOR VALUES FROM (MINVALUE) TO (5);
CREATE TABLE app.listed_rest_high PARTITION OF app.listed_rest FOR VALUES FROM (5) TO (MAXVALUE);
INSERT INTO app.listed VALUES ('A', 1), (NULL, 2), ('B''s', 3), ('c', 4), ('d', 5);
CREATE TABLE app.mixed (a int) PARTITION BY LIST (a);
CREATE TABLE app.mixed_near PARTITION OF app.mixed FOR VALUES IN (1);
INSERT INTO app.mixed VALUES (1);
CREATE TABLE app.childless (a int) PARTITION BY LIST (a);
-- since 17
CREATE TABLE app.part_numbers (id bigint GENERATED ALWAYS AS IDENTITY, a int) PARTITION BY RANGE (a);
CREATE TABLE app.part_numbers_1 PARTITION OF app.part_numbers FOR VALUES FROM (1) TO (9);
INSERT INTO app.part_numbers (a) VALUES (1), (2);
-- end

CREATE TABLE app.parent (a int, b text DEFAULT 'parent', CHECK (a > 0));
CREATE TABLE app.other_parent (b text DEFAULT 'other', c int NOT NULL, CONSTRAINT not_down CHECK (c > 0) NO INHERIT);
CREATE TABLE app.child (b text DEFAULT 'child', d int) INHERITS (app.parent, app.other_parent);
CREATE TABLE app.grandchild (a int DEFAULT 9, CONSTRAINT parent_a_check CHECK (a > 0)) INHERITS (app.child);
ALTER TABLE app.child ALTER a SET DEFAULT 8;
CREATE TABLE app.adopted (a int, b text, d int, c int NOT NULL, CONSTRAINT parent_a_check CHECK (a > 0));
ALTER TABLE app.adopted INHERIT app.parent;
INSERT INTO app.parent VALUES (1);
INSERT INTO app.other_parent VALUES ('o', 2);
INSERT INTO app.child (c, d) VALUES (3, 4);
INSERT INTO app.grandchild (c) VALUES (5);
INSERT INTO app.adopted VALUES (4, 'three', 1, 2);
