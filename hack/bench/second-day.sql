-- The second day: one row in five hundred is changed, wherever it lies, and one in forty added.
SELECT setseed(0.25);
UPDATE orders SET status = 'sent', amount = amount + 1, details = details || '{"carrier": "north"}'
  WHERE id IN (SELECT 1 + (random() * (:rows - 1))::bigint FROM generate_series(1, :rows / 500));
CALL add_orders(:rows + 1, :rows + :rows / 40);
VACUUM (ANALYZE) orders;
