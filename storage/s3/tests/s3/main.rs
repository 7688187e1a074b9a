//! The driver against S3 servers that others have written.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod conformance;
mod place;
mod server;
