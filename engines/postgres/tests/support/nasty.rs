//! A database with one of everything, roles for it, and what is compared.

use super::TestServer;

/// Its name.
pub const NASTY: &str = "shop-\"1\" größe; drop";

/// What the names of its streams begin with.
pub const PREFIX: &str = "databases/shop-%221%22%20gr%C3%B6%C3%9Fe%3B%20drop/";

/// A role's name of 63 bytes.
pub const LONG_ROLE: &str = "role \"q\" 'a' größe % \\ / . ; ééééééééééééé 🐘x";

/// Its parts, in order, below `tests/nasty`.
const PARTS: &[&str] = &[
    "10-types.sql",
    "20-tables.sql",
    "30-partitions.sql",
    "35-names.sql",
    "40-code.sql",
    "50-rights.sql",
    "60-large-objects.sql",
];

/// In the order of their names, as a restore makes them: `pg_dump` lists the roles of a policy by age.
const ROLES: &str = "
    CREATE ROLE nasty_group CREATEDB;
    CREATE ROLE nasty_owner NOLOGIN;
    CREATE ROLE nasty_reader LOGIN PASSWORD 'reader''s' CONNECTION LIMIT 3 VALID UNTIL '2040-01-01';
    CREATE ROLE \"LONG\" NOINHERIT BYPASSRLS REPLICATION;
    COMMENT ON ROLE nasty_group IS 'it''s a group';
    GRANT nasty_group TO nasty_reader WITH ADMIN OPTION;
    GRANT \"LONG\" TO nasty_owner;
    GRANT pg_monitor TO nasty_group;
    ALTER ROLE nasty_reader SET search_path TO \"$user\", app, \"Odd, one\"";

const PROPERTIES: &[&str] = &[
    "ALTER DATABASE \"NAME\" OWNER TO nasty_owner",
    "ALTER DATABASE \"NAME\" SET work_mem TO '7MB'",
    "ALTER DATABASE \"NAME\" SET search_path TO \"$user\", \"Odd, one\", public, \"Lookup, one\"",
    "ALTER DATABASE \"NAME\" SET app.flavour TO 'it''s'",
    // What its values of type money are written by.
    "ALTER DATABASE \"NAME\" SET lc_monetary TO 'de_DE.utf8'",
    "ALTER ROLE nasty_reader IN DATABASE \"NAME\" SET statement_timeout TO '5s'",
    "REVOKE ALL ON DATABASE \"NAME\" FROM PUBLIC",
    "GRANT CONNECT ON DATABASE \"NAME\" TO nasty_reader WITH GRANT OPTION",
    "GRANT CREATE ON DATABASE \"NAME\" TO nasty_group",
    "COMMENT ON DATABASE \"NAME\" IS 'the shop''s \"own\"'",
    "ALTER DATABASE \"NAME\" WITH CONNECTION LIMIT 17",
];

/// Makes roles and a database with what servers of `level` and later can have:
/// the server's own major, or that of an older target.
pub fn make_nasty(server: &TestServer, level: u32) {
    let long = LONG_ROLE.replace('"', "\"\"");
    assert_eq!(LONG_ROLE.len(), 63);
    server.sql("postgres", &ROLES.replace("LONG", &long));
    make_tablespaces(server);
    server.install_extension();
    let name = NASTY.replace('"', "\"\"");
    server.sql("postgres", &format!("CREATE DATABASE \"{name}\" TABLESPACE \"Slow; disk\""));
    for part in PARTS {
        server.sql_file(NASTY, &format!("nasty/{part}"), level);
    }
    for statement in PROPERTIES {
        server.sql("postgres", &statement.replace("NAME", &name));
    }
}

/// What a target must have beforehand: a restore makes no tablespaces, and installs no packages.
pub fn prepare_target(server: &TestServer) {
    make_tablespaces(server);
    server.install_extension();
}

fn make_tablespaces(server: &TestServer) {
    for name in ["fast", "\"Slow; disk\""] {
        server.sql_with(
            "postgres",
            "-c allow_in_place_tablespaces=on",
            &format!("CREATE TABLESPACE {name} LOCATION ''"),
        );
    }
}

/// A digest of each table's rows, whatever their order; the values of each
/// sequence; a digest of each large object, and whose it is.
pub fn row_digests(server: &TestServer, database: &str) -> String {
    let of = |kinds: &str| {
        let sql = format!(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.oid \
             FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
             WHERE relkind IN ({kinds}) AND relispopulated \
             AND n.nspname !~ '^(pg_|information_schema)' ORDER BY 1"
        );
        // A name may hold a new line, so they are not read as text: as hex.
        let hex = format!("SELECT encode(convert_to(t.name, 'UTF8'), 'hex') FROM ({sql}) t(name)");
        let names = server.sql(database, &hex);
        names.lines().map(|name| String::from_utf8(unhex(name)).unwrap()).collect::<Vec<_>>()
    };
    let tables = of("'r', 'm'");
    assert!(tables.len() >= 15, "{tables:?}");
    let tables = tables.iter().map(|table| {
        format!(
            "SELECT '{}', count(*), md5(string_agg(\"the row\"::text, E'\\n' ORDER BY \"the row\"::text)) \
             FROM ONLY {table} \"the row\"",
            table.replace('\'', "''")
        )
    });
    let sequences = of("'S'");
    let sequences = sequences.iter().map(|sequence| {
        format!(
            "SELECT '{}', last_value, is_called::text FROM {sequence}",
            sequence.replace('\'', "''")
        )
    });
    let objects = "SELECT 'large object ' || oid, length(lo_get(oid)), \
        md5(lo_get(oid)) || pg_get_userbyid(lomowner) || coalesce(lomacl::text, '') \
        FROM pg_largeobject_metadata"
        .to_owned();
    let queries: Vec<_> = tables.chain(sequences).chain([objects]).collect();
    server.sql_stdin(
        database,
        &format!(
            "SET standard_conforming_strings = on; {} ORDER BY 1",
            queries.join(" UNION ALL ")
        ),
    )
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Shows the first lines that differ, and not two whole dumps.
pub fn similar_asserts(left: &str, right: &str) {
    let [left, right] = [left, right].map(|text| text.lines().collect::<Vec<_>>());
    let differs = left.iter().zip(&right).position(|(a, b)| a != b);
    if let Some(at) = differs {
        let around = |lines: &[&str]| {
            let shown = &lines[at.saturating_sub(4)..lines.len().min(at + 3)];
            let shown = shown.iter().map(|line| line.chars().take(200).collect::<String>());
            shown.collect::<Vec<_>>().join("\n")
        };
        panic!("line {}:\n{}\n--- and ---\n{}", at + 1, around(&left), around(&right));
    }
    assert_eq!(left.len(), right.len());
}

/// What of `text` is meant for servers of `level` and later, made on one of
/// `major`: a section that begins with a line `-- since N` is left out where the
/// level is less, up to a line `-- end`; with `-- since N or on M` it is kept on
/// M all the same. Its lines stay as empty ones, so that the numbers in messages
/// are the file's.
pub fn for_major(text: &str, level: u32, major: u32) -> String {
    let mut left_out = None;
    let mut kept = String::new();
    for (number, line) in text.lines().enumerate() {
        if let Some((since, on)) = section_of(line) {
            assert!(left_out.is_none(), "line {}: a section within a section", number + 1);
            left_out = Some(level < since && on != Some(major));
        } else if line == "-- end" {
            assert!(left_out.take().is_some(), "line {}: the end of no section", number + 1);
        } else if left_out != Some(true) {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    assert!(left_out.is_none(), "the last section has no end");
    kept
}

fn section_of(line: &str) -> Option<(u32, Option<u32>)> {
    let versions = line.strip_prefix("-- since ")?;
    match versions.split_once(" or on ") {
        Some((since, on)) => Some((since.parse().ok()?, Some(on.parse().ok()?))),
        None => Some((versions.parse().ok()?, None)),
    }
}
