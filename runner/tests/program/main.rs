//! The runner as people and Jobs meet it: a program, its output, its exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod closed_output;
mod exit_codes;
mod full_volume;
mod hung_volume;
mod keys;
mod output;
mod repair;
mod retention;
mod round_trip;
mod s3;
mod s3_credentials;
#[path = "../../../storage/s3/tests/s3/server.rs"]
mod s3_server;
mod secrets;
mod stop;
mod store_program;
mod support;
mod terminal;
