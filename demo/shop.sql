-- What the application has: some tables, some rows, some rules.
create role shop_app login;
create database shop owner shop_app;
\connect shop
create type order_state as enum ('open', 'paid', 'shipped');
create table customers (
  id bigint generated always as identity primary key,
  name text not null,
  email text not null unique check (email like '%@%'),
  since timestamptz not null default now()
);
create table orders (
  id bigint generated always as identity primary key,
  customer bigint not null references customers,
  state order_state not null default 'open',
  lines jsonb not null,
  total numeric(12, 2) not null check (total >= 0),
  placed timestamptz not null
);
create index orders_of_customer on orders (customer, placed desc);
create view open_orders as select * from orders where state = 'open';
grant select on customers, orders, open_orders to shop_app;
insert into customers (name, email, since)
  select 'Customer ' || n, 'c' || n || '@example.org', timestamptz '2024-01-01' + n * interval '1 hour'
  from generate_series(1, 5000) n;
insert into orders (customer, state, lines, total, placed)
  select 1 + n % 5000,
         (array['open', 'paid', 'shipped']::order_state[])[1 + n % 3],
         jsonb_build_array(jsonb_build_object('sku', md5(n::text), 'quantity', n % 7)),
         n % 100000 / 100.0,
         timestamptz '2025-01-01' + n * interval '1 minute'
  from generate_series(1, 200000) n;
