-- The first day: a table as many have one, with words, JSON, numbers and random bytes.
SELECT setseed(0.5);

-- 300 words of two to four syllables; not compressed, since every row asks for them.
CREATE TABLE vocabulary (words text[] STORAGE PLAIN);
INSERT INTO vocabulary
  SELECT array_agg(word) AS words FROM (
    SELECT string_agg(substr('bcdfghklmnprstvw', 1 + (random() * 15)::int, 1)
      || substr('aeiou', 1 + (random() * 4)::int, 1)
      || substr('lmnrst', 1 + (random() * 5)::int, 1), '') AS word
    FROM generate_series(1, 300) AS number, generate_series(1, 2 + number % 3)
    GROUP BY number) AS made;

CREATE TABLE orders (id bigint, placed timestamptz, customer int, email text, status text,
  amount numeric, note text, details jsonb, token bytea);

CREATE FUNCTION word(words text[]) RETURNS text LANGUAGE sql VOLATILE AS
  $$ SELECT words[1 + (random() * 299)::int] $$;

CREATE PROCEDURE add_orders(first bigint, last bigint) LANGUAGE sql AS $$
  INSERT INTO orders SELECT n,
    timestamptz '2025-01-01 00:00+00' + n * interval '7 seconds' + random() * interval '6 seconds',
    (random() ^ 2 * 200000)::int,
    word(words) || '.' || word(words) || '@example.' || (ARRAY['org', 'com', 'net'])[1 + (random() * 2)::int],
    (ARRAY['new', 'paid', 'packed', 'sent', 'returned'])[1 + (random() * 4)::int],
    round((random() * 900 + 10)::numeric, 2),
    concat_ws(' ', word(words), word(words), word(words), word(words), word(words) || ',',
      word(words), word(words), word(words), word(words), word(words) || '.',
      word(words), word(words), word(words), word(words), word(words), word(words) || '.'),
    jsonb_build_object('sku', 'A-' || (random() * 50000)::int, 'quantity', 1 + (random() * 9)::int,
      'weightGrams', (random() * 5000)::int, 'gift', random() < 0.1,
      'address', jsonb_build_object('street', initcap(word(words)) || ' ' || (random() * 200)::int,
        'town', initcap(word(words)), 'code', lpad((random() * 99999)::int::text, 5, '0')),
      'tags', jsonb_build_array(word(words), word(words))),
    decode(md5(random()::text), 'hex')
  FROM generate_series(first, last) AS n, vocabulary
$$;

CALL add_orders(1, :rows);
ALTER TABLE orders ADD PRIMARY KEY (id);
CREATE INDEX ON orders (customer);
-- Else the first to read a page would change it.
VACUUM (FREEZE, ANALYZE) orders;
