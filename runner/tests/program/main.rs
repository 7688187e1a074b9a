//! The runner as people and Jobs meet it: a program, its output, its exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod closed_output;
#[path = "../../../storage/clouds/tests/clouds/authority.rs"]
mod cloud_authority;
mod cloud_identities;
#[path = "../../../storage/clouds/tests/clouds/server.rs"]
mod cloud_server;
#[path = "../../../storage/clouds/tests/clouds/service_account.rs"]
mod cloud_service_account;
mod clouds;
mod copy;
mod days;
mod exit_codes;
mod full_volume;
mod hung_volume;
mod keys;
mod notify;
mod output;
#[path = "../../../storage/s3/tests/s3/proxy.rs"]
#[allow(dead_code, reason = "the driver's tests use the rest")]
mod proxy;
mod repair;
mod retention;
mod round_trip;
mod s3;
mod s3_credentials;
mod s3_rights;
#[path = "../../../storage/s3/tests/s3/server.rs"]
mod s3_server;
mod secrets;
mod stop;
mod store_program;
mod support;
mod terminal;
