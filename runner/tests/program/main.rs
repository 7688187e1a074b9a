//! The runner as people and Jobs meet it: a program, its output, its exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod hung_volume;
mod support;
