//! Values of somebody's rows never get into a failure, and so into no status.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use dbbackup_contract::Reason;
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, put_back,
    report, restore_to,
};

/// A database whose restore fails at a value: its function was another one when
/// the rows came in.
struct Broken {
    name: &'static str,
    table: &'static str,
    value: &'static str,
    function: &'static str,
    message: &'static str,
}

const GENERATED: &str = "CREATE TABLE t (v text, n int GENERATED ALWAYS AS (public.f(v)) STORED)";

const BROKEN: &[Broken] = &[
    Broken {
        name: "syntax",
        table: GENERATED,
        value: "secret",
        function: "BEGIN RETURN $1::int; END",
        message: "psql: invalid input syntax for type integer: …",
    },
    Broken {
        name: "quotes",
        table: GENERATED,
        value: "a\"secret\"b\"\nsecret \"",
        function: "BEGIN RETURN $1::int; END",
        message: "psql: invalid input syntax for type integer: …",
    },
    Broken {
        name: "range",
        table: GENERATED,
        value: "7777777777",
        function: "BEGIN RETURN $1::int; END",
        message: "psql: value … is out of range for type integer",
    },
    Broken {
        name: "raised",
        table: GENERATED,
        value: "secret",
        function: "BEGIN RAISE EXCEPTION 'no % here', $1; END",
        message: "psql: a function of the database raised an error of its own",
    },
    Broken {
        name: "disguised",
        table: GENERATED,
        value: "secret",
        function: "BEGIN RAISE EXCEPTION '%', $1 USING ERRCODE = '23514', TABLE = $1; END",
        message: "psql: a function of the database raised an error of its own",
    },
    Broken {
        name: "indexed",
        table: "CREATE TABLE t (v text); CREATE UNIQUE INDEX only_one ON t (public.f(v))",
        value: "secret",
        function: "BEGIN RETURN 1; END",
        message: "psql: could not create unique index \"only_one\"",
    },
    Broken {
        name: "checked",
        table: "CREATE TABLE t (v text, CONSTRAINT right_length CHECK (public.f(v) > 1))",
        value: "secret",
        function: "BEGIN RETURN 1; END",
        message: "psql: new row for relation \"t\" violates check constraint \"right_length\"",
    },
];

fn function(body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION public.f(text) RETURNS int IMMUTABLE LANGUAGE plpgsql \
         AS $body${body}$body$"
    )
}

#[tokio::test]
async fn a_restore_that_fails_at_a_value_does_not_show_it() {
    let server = TestServer::start(17, &[]);
    for Broken { name, table, value, function: broken, .. } in BROKEN {
        server.sql("postgres", &format!("CREATE DATABASE {name}"));
        server.sql(name, &function("BEGIN RETURN length($1); END"));
        server.sql(name, table);
        let value = value.replace('\'', "''");
        server.sql(name, &format!("INSERT INTO t VALUES ('{value}'), ('{value} too')"));
        server.sql(name, &function(broken));
    }
    let names: Vec<_> = BROKEN.iter().map(|broken| broken.name).collect();
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let options = backup_of(connection(&server, dir.path()), &names);
    assert_all_succeeded(&back_up(&options, &backup).await.unwrap().databases);
    let targets: Vec<_> = names.iter().map(|name| format!("{name}_again")).collect();
    let pairs: Vec<_> = names.iter().copied().zip(targets.iter().map(String::as_str)).collect();
    let restored = put_back(&restore_to(connection(&server, dir.path()), &pairs), &backup).await;
    let restored = restored.unwrap();
    for Broken { name, message, .. } in BROKEN {
        let error = report(&restored.databases, name).error.as_ref().unwrap();
        assert_eq!(error.reason, Reason::StatementFailed, "{name}: {error}");
        let shown = error.message.rsplit_once(" (line ").map_or("", |(shown, _)| shown);
        assert_eq!(shown, *message, "{name}: {error}");
    }
    let all = format!("{restored:?}");
    assert!(!all.contains("secret") && !all.contains("77777"), "{all}");
}
