//! SIGTERM, SIGINT and SIGHUP (a terminal that is gone): the work is told to stop, ends
//! tidily, and the exit code says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dbbackup_contract::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was ended by SIGTERM, by the shells' convention: 128 + 15.
const BY_SIGTERM: u8 = 143;
/// The same for SIGINT: 128 + 2.
const BY_SIGINT: u8 = 130;
/// The same for SIGHUP: 128 + 1.
const BY_SIGHUP: u8 = 129;

/// Listens for signals until the process ends.
pub(crate) struct Stop {
    token: CancellationToken,
    /// Exit code of the signal that came; 0 while none has.
    signalled: Arc<AtomicU8>,
}

impl Stop {
    /// Begins to listen. A second signal ends the process at once.
    pub(crate) fn on_signals() -> Self {
        let stop = Self { token: CancellationToken::new(), signalled: Arc::default() };
        for (kind, code) in [
            (SignalKind::terminate(), BY_SIGTERM),
            (SignalKind::interrupt(), BY_SIGINT),
            (SignalKind::hangup(), BY_SIGHUP),
        ] {
            // Whoever began it with `nohup` wants it to go on without a terminal.
            if code == BY_SIGHUP && ignores_hangup() {
                continue;
            }
            let (token, signalled) = (stop.token.clone(), Arc::clone(&stop.signalled));
            match signal(kind) {
                Ok(mut signals) => {
                    tokio::spawn(async move {
                        while signals.recv().await.is_some() {
                            if signalled.swap(code, Ordering::SeqCst) != 0 {
                                std::process::exit(code.into());
                            }
                            tracing::warn!("told to stop; a second signal ends it at once");
                            token.cancel();
                        }
                    });
                }
                // The signal then ends the process by itself.
                Err(error) => tracing::warn!(%error, "a signal cannot be caught"),
            }
        }
        stop
    }

    /// Cancelled when a signal came.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// The process's exit status: what the work says, unless it failed because of a signal.
    pub(crate) fn exit_code(&self, outcome: ExitCode) -> u8 {
        match (self.signalled.load(Ordering::SeqCst), outcome) {
            (0, outcome) | (_, outcome @ (ExitCode::Success | ExitCode::Partial)) => outcome.code(),
            (signal, _) => signal,
        }
    }
}

/// Whether the process was begun with SIGHUP ignored (proc_pid_status(5), `SigIgn`).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}
