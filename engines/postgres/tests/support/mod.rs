//! Real servers, a backup in memory, and a look at both by tools that are not ours.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

pub mod gate;
pub mod logs;
pub mod memory;
pub mod nasty;
pub mod proxy;
pub mod raw;
pub mod same;
pub mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dbbackup_contract::{
    CredentialFiles, DatabaseOutcome, DatabaseReport, DatabaseSelection, Failure, GlobalsPolicy,
    OnError, PostgresqlAccess, RestoreDatabase, SecretFile, TlsAccess, TlsMode, UserName,
};
use dbbackup_postgres::{
    BackupOptions, BackupResult, ClientFolders, Permission, RestoreOptions, RestoreResult,
    ServerConnection, Strategy,
};
use tokio_util::sync::CancellationToken;

pub use self::memory::{MemoryBackup, Silent};
pub use self::server::TestServer;

/// The folder of these tests; others start servers by them, too.
pub const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// A secret as Kubernetes mounts it.
pub fn secret(dir: &Path, key: &str, value: &str) -> SecretFile {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join(key), value).unwrap();
    SecretFile {
        dir: dir.to_str().unwrap().to_owned(),
        key: key.to_owned(),
        object: "the Secret test".to_owned(),
        named_by: String::new(),
    }
}

/// A way to `server` as `user`; `dir` takes its secrets and scratch files.
pub fn connection_as(
    server: &TestServer,
    dir: &Path,
    user: &str,
    password: &str,
) -> ServerConnection {
    let secrets = dir.join(format!("secret-{user}"));
    let scratch = dir.join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    ServerConnection {
        access: PostgresqlAccess {
            host: "127.0.0.1".to_owned(),
            port: server.port,
            credentials: CredentialFiles {
                username: UserName::File(secret(&secrets, "username", user)),
                password: Some(secret(&secrets, "password", &format!("{password}\n"))),
            },
            tls: TlsAccess { mode: TlsMode::Prefer, ..TlsAccess::default() },
        },
        scratch_dir: scratch,
        clients: ClientFolders::new(vec![server.clients()]),
        connect_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(60),
    }
}

/// A way to `server` as its superuser.
pub fn connection(server: &TestServer, dir: &Path) -> ServerConnection {
    connection_as(server, dir, "postgres", "secret")
}

pub fn backup_of(server: ServerConnection, include: &[&str]) -> BackupOptions {
    BackupOptions {
        server,
        databases: DatabaseSelection {
            include: include.iter().map(|name| (*name).to_owned()).collect(),
            exclude: Vec::new(),
        },
        lock_timeout: Duration::from_secs(30),
    }
}

pub async fn back_up(
    options: &BackupOptions,
    backup: &MemoryBackup,
) -> Result<BackupResult, Failure> {
    let result =
        dbbackup_postgres::backup(options, backup, &Silent, &CancellationToken::new()).await;
    assert_scratch_empty(&options.server);
    result
}

/// Files with secrets never outlive the run that needed them.
pub fn assert_scratch_empty(server: &ServerConnection) {
    let left: Vec<_> = std::fs::read_dir(&server.scratch_dir).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

pub fn restore_to(server: ServerConnection, databases: &[(&str, &str)]) -> RestoreOptions {
    let databases = databases
        .iter()
        .map(|(name, as_name)| RestoreDatabase {
            name: (*name).to_owned(),
            as_name: Some((*as_name).to_owned()),
            schemas: Vec::new(),
            tables: Vec::new(),
        })
        .collect();
    RestoreOptions {
        server,
        databases,
        globals: GlobalsPolicy::Merge,
        no_owner: false,
        role_map: BTreeMap::new(),
        strategy: Strategy::CreateNew,
        is_continued: false,
        request_uid: "4f1c0d9e-0000-4000-8000-000000000001".to_owned(),
        lock_timeout: Duration::from_secs(1),
        snapshot: "snapshot".to_owned(),
        dry_run: false,
        approved_plan: None,
        on_error: OnError::Continue,
        assertions: Vec::new(),
        missing: Vec::new(),
        permission: Permission::given(),
    }
}

pub async fn put_back(
    options: &RestoreOptions,
    backup: &MemoryBackup,
) -> Result<RestoreResult, Failure> {
    let result =
        dbbackup_postgres::restore(options, backup, &Silent, &CancellationToken::new()).await;
    assert_scratch_empty(&options.server);
    result
}

/// Begins a restore and drops it, as a kill would, while it waits before a stream.
pub async fn killed_at(options: &RestoreOptions, backup: &MemoryBackup, stream: &str) {
    let hanging = backup.copy();
    *hanging.hangs_at.lock().unwrap() = Some(stream.to_owned());
    let cancel = CancellationToken::new();
    let restore = dbbackup_postgres::restore(options, &hanging, &Silent, &cancel);
    let reached = async {
        while !hanging.read.lock().unwrap().iter().any(|name| name.ends_with(stream)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = restore => panic!("it did not wait: {ended:?}"),
        () = reached => {}
    }
}

/// The only scratch database of `server`.
pub fn scratch_of(server: &TestServer) -> String {
    let sql = "SELECT datname FROM pg_database WHERE datname LIKE 'dbb\\_%'";
    let name = server.sql("postgres", sql);
    assert_eq!(name.len(), 20, "{name}");
    name
}

/// Every database of the list is done.
pub fn assert_all_succeeded(databases: &[DatabaseReport]) {
    for database in databases {
        let fine =
            matches!(database.outcome, DatabaseOutcome::Succeeded | DatabaseOutcome::Skipped);
        assert!(fine, "{database:#?}");
    }
}

pub fn report<'a>(databases: &'a [DatabaseReport], name: &str) -> &'a DatabaseReport {
    databases.iter().find(|database| database.name == name).unwrap_or_else(|| panic!("no {name}"))
}
