//! PostgreSQL servers for tests: those of the engine's own.

#![allow(dead_code, unreachable_pub, reason = "the engine's tests use the rest")]

#[path = "../../../engines/postgres/tests/support/nasty.rs"]
mod nasty;
#[path = "../../../engines/postgres/tests/support/same.rs"]
mod same;
#[path = "../../../engines/postgres/tests/support/server.rs"]
mod server;

use std::path::Path;

use dbbackup_contract::{
    CredentialFiles, PostgresqlAccess, SecretFile, TlsAccess, TlsMode, UserName,
};
pub use server::TestServer;

/// How a task names a server; its password comes into `secrets`. Each role has the same.
pub fn access_to(server: &TestServer, role: &str, secrets: &Path) -> PostgresqlAccess {
    std::fs::write(secrets.join("password"), "secret").unwrap();
    let password = SecretFile::local(secrets.display().to_string(), "password".to_owned());
    PostgresqlAccess {
        host: "127.0.0.1".to_owned(),
        port: server.port,
        credentials: CredentialFiles {
            username: UserName::Literal(role.to_owned()),
            password: Some(password),
        },
        tls: TlsAccess { mode: TlsMode::Prefer, ..TlsAccess::default() },
    }
}

/// The folder of the engine's tests.
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engines/postgres/tests");
