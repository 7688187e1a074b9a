//! PostgreSQL servers for tests: those of the engine's own.

#![allow(dead_code, unreachable_pub, reason = "the engine's tests use the rest")]

#[path = "../../../engines/postgres/tests/support/nasty.rs"]
mod nasty;
#[path = "../../../engines/postgres/tests/support/same.rs"]
mod same;
#[path = "../../../engines/postgres/tests/support/server.rs"]
mod server;

pub use server::TestServer;

/// The folder of the engine's tests.
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engines/postgres/tests");
