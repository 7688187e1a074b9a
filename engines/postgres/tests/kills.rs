//! A restore that is killed between any two of its statements is taken up by the
//! next, whatever its databases are called.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use dbbackup_postgres::{RestoreOptions, RestoreResult, settle};
use support::gate::Gate;
use support::{
    MemoryBackup, Silent, TestServer, assert_all_succeeded, back_up, backup_of, connection,
    put_back, restore_to,
};
use tokio_util::sync::CancellationToken;

/// Names that are bad for a shell, a connection string, a path and SQL; one has 63 bytes.
const ODD: [&str; 2] =
    ["-hy-phen: it's \"q\" = / \\ % $1;", "postgres://größe?🐘 äöüäöüäöüäöüäöüäöüä/"];

/// Servers with and without databases of these names, and the backup.
async fn odd(dir: &std::path::Path) -> (TestServer, TestServer, MemoryBackup) {
    let (source, target) = (TestServer::start(17, &[]), TestServer::start(17, &[]));
    assert_eq!(ODD[1].len(), 63);
    source.sql("postgres", "CREATE ROLE \"odd; owner\"; ");
    source.sql("postgres", "CREATE ROLE reader");
    for name in ODD {
        let quoted = name.replace('"', "\"\"");
        source.sql("postgres", &format!("CREATE DATABASE \"{quoted}\" OWNER \"odd; owner\""));
        for statement in [
            "ALTER DATABASE \"NAME\" SET work_mem TO '7MB'",
            "ALTER ROLE reader IN DATABASE \"NAME\" SET work_mem TO '8MB'",
            "REVOKE ALL ON DATABASE \"NAME\" FROM PUBLIC",
            "GRANT CONNECT ON DATABASE \"NAME\" TO reader WITH GRANT OPTION",
            "SET ROLE reader; GRANT CONNECT ON DATABASE \"NAME\" TO pg_monitor",
            "COMMENT ON DATABASE \"NAME\" IS 'its own'",
            "ALTER DATABASE \"NAME\" CONNECTION LIMIT 5 IS_TEMPLATE true",
        ] {
            source.sql("postgres", &statement.replace("NAME", &quoted));
        }
        source.sql(name, "CREATE TABLE t AS SELECT 1 AS a");
    }
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(connection(&source, dir), &ODD), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);
    assert_eq!(made.databases.len(), ODD.len());
    (source, target, backup)
}

/// Everything that a server knows of its databases, but for their numbers.
fn all_of_databases(server: &TestServer) -> String {
    server.sql(
        "postgres",
        "SELECT to_jsonb(d) - '{oid,datfrozenxid,datminmxid,datlastsysoid}'::text[] \
             || jsonb_build_object('datacl', (SELECT jsonb_agg(a ORDER BY a::text) FROM unnest(datacl) a), \
                'comment', shobj_description(d.oid, 'pg_database'), \
                'datdba', datdba::regrole, 'settings', (SELECT jsonb_agg(jsonb_build_array( \
                setrole::regrole, setconfig) ORDER BY setrole) FROM pg_db_role_setting s \
                WHERE s.setdatabase = d.oid)) \
         FROM pg_database d WHERE datname NOT IN ('postgres', 'template0', 'template1') \
         ORDER BY datname",
    )
}

#[tokio::test]
async fn a_restore_of_several_that_is_killed_before_any_statement_is_taken_up_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target, backup) = odd(dir.path()).await;
    let gate = Gate::before(target.port).await;
    // The target is another server, and each database keeps its name.
    let names: Vec<_> = ODD.iter().map(|name| (*name, *name)).collect();
    let mut options = restore_to(connection(&target, dir.path()), &names);
    // However long the session of the one that was killed lives on.
    options.lock_timeout = Duration::from_secs(60);
    let mut gated = options.clone();
    gated.server.access.port = gate.port;
    let expected = all_of_databases(&source);
    let mut number = 0;
    loop {
        gate.hold(number);
        let attempt = async {
            let restored = put_back_beside_others(&gated, &backup).await;
            settle(&gated, &restored.placed).await.unwrap();
        };
        let killed = tokio::select! {
            () = attempt => false,
            () = gate.reached() => true,
        };
        let before = gate.passed().last().cloned().unwrap();
        if killed {
            gate.cut();
            let restored = put_back(&options, &backup).await.unwrap();
            assert_all_succeeded(&restored.databases);
            assert_eq!(restored.databases.len(), ODD.len(), "killed before {before}");
            settle(&options, &restored.placed).await.unwrap();
        }
        assert_eq!(all_of_databases(&target), expected, "killed before {before}");
        if !killed {
            break;
        }
        for name in ODD {
            assert_eq!(target.sql(name, "SELECT a FROM t"), "1", "killed before {before}");
            let name = name.replace('"', "\"\"");
            target.sql("postgres", &format!("ALTER DATABASE \"{name}\" IS_TEMPLATE false"));
            target.sql("postgres", &format!("DROP DATABASE \"{name}\""));
        }
        target.sql("postgres", "DROP ROLE reader, \"odd; owner\"");
        number += 1;
    }
    // Every kind of statement was among them, once for each database.
    let passed = gate.passed();
    for begins in ["CREATE DATABASE", "REVOKE CONNECT", "COMMENT ON DATABASE", "ALTER DATABASE"] {
        let count = passed.iter().filter(|sql| sql.starts_with(begins)).count();
        assert!(count >= ODD.len(), "{begins}: {passed:#?}");
    }
    assert_eq!(number, passed.len());
    for name in ODD {
        assert_eq!(source.dump(name), target.dump(name));
    }
}

/// As `put_back`, where it may be dropped before its end.
async fn put_back_beside_others(options: &RestoreOptions, backup: &MemoryBackup) -> RestoreResult {
    let cancel = CancellationToken::new();
    let restored = dbbackup_postgres::restore(options, backup, &Silent, &cancel).await.unwrap();
    assert_all_succeeded(&restored.databases);
    restored
}
