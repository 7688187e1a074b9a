//! A database with one of everything, and the comparison of two such databases.

use super::TestServer;

const ROLES: &str = "
    CREATE ROLE nasty_owner NOLOGIN;
    CREATE ROLE nasty_reader LOGIN PASSWORD 'reader''s' CONNECTION LIMIT 3 VALID UNTIL '2040-01-01';
    CREATE ROLE nasty_group CREATEDB;
    COMMENT ON ROLE nasty_group IS 'it''s a group';
    GRANT nasty_group TO nasty_reader WITH ADMIN OPTION;
    GRANT pg_monitor TO nasty_group;
    ALTER ROLE nasty_reader SET search_path TO \"$user\", app, \"Odd, one\"";

pub const NASTY: &str = "shop-\"1\" größe; drop";

/// Makes roles and a database with what servers of `level` and later can have:
/// the server's own major, or that of an older target.
pub fn make_nasty(server: &TestServer, level: u32) {
    server.sql("postgres", ROLES);
    let name = NASTY.replace('"', "\"\"");
    server.sql("postgres", &format!("CREATE DATABASE \"{name}\""));
    server.sql_file(NASTY, "nasty.sql", level);
    for statement in [
        "ALTER DATABASE \"NAME\" OWNER TO nasty_owner",
        "ALTER DATABASE \"NAME\" SET work_mem TO '7MB'",
        "ALTER DATABASE \"NAME\" SET search_path TO \"$user\", \"Odd, one\", public",
        "ALTER DATABASE \"NAME\" SET app.flavour TO 'it''s'",
        "ALTER ROLE nasty_reader IN DATABASE \"NAME\" SET statement_timeout TO '5s'",
        "REVOKE ALL ON DATABASE \"NAME\" FROM PUBLIC",
        "GRANT CONNECT ON DATABASE \"NAME\" TO nasty_reader WITH GRANT OPTION",
        "GRANT CREATE ON DATABASE \"NAME\" TO nasty_group",
        "COMMENT ON DATABASE \"NAME\" IS 'the shop''s \"own\"'",
        "ALTER DATABASE \"NAME\" WITH CONNECTION LIMIT 17",
    ] {
        server.sql("postgres", &statement.replace("NAME", &name));
    }
}

/// A digest of each table's rows, whatever their order.
pub fn row_digests(server: &TestServer, database: &str) -> String {
    let tables = server.sql(
        database,
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'm') \
         AND relispopulated AND n.nspname !~ '^(pg_|information_schema)' ORDER BY 1",
    );
    let queries: Vec<_> = tables
        .lines()
        .map(|table| {
            let name = table.replace('\'', "''");
            format!(
                "SELECT '{name}', count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) \
                 FROM ONLY {table} t"
            )
        })
        .collect();
    assert!(queries.len() >= 15, "{tables}");
    server.sql(database, &format!("{} ORDER BY 1", queries.join(" UNION ALL ")))
}

/// Shows the first lines that differ, and not two whole dumps.
pub fn similar_asserts(left: &str, right: &str) {
    for (number, (a, b)) in left.lines().zip(right.lines()).enumerate() {
        assert_eq!(a, b, "line {}", number + 1);
    }
    assert_eq!(left.lines().count(), right.lines().count());
}
