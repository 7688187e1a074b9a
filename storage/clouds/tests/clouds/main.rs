//! The driver against servers that others have written.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod authority;
mod conformance;
mod network;
mod place;
#[path = "../../../s3/tests/s3/proxy.rs"]
#[allow(dead_code, reason = "the other driver's tests use the rest")]
mod proxy;
mod refusals;
mod server;
mod service_account;
