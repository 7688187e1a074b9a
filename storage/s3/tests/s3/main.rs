//! The driver against S3 servers that others have written.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod conformance;
mod lies;
mod listing;
mod lock;
mod network;
mod place;
mod proxy;
mod refusals;
mod server;
mod tls;
