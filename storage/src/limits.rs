//! How patient a driver is with a server.

use std::time::Duration;

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the server answers a request, and between two parts of an answer.
    pub silence: Duration,
    /// What is sent may take longer than `silence` by its size divided by this
    /// (bytes a second).
    pub slowest_upload: u64,
}

impl Default for Limits {
    /// A pack of 16 MiB may take nine minutes, which is below the runner's usual
    /// `stallTimeout`: a connection that died while something was sent is noticed,
    /// and another one tried, before the run gives up.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(60),
            slowest_upload: 32 * 1024,
        }
    }
}
