//! SIGTERM and SIGINT: the work is told to stop, ends tidily, and the exit code says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dbbackup_contract::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was ended by SIGTERM, by the shells' convention: 128 + 15.
const BY_SIGTERM: u8 = 143;
/// The same for SIGINT: 128 + 2.
const BY_SIGINT: u8 = 130;

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
        for (kind, code) in
            [(SignalKind::terminate(), BY_SIGTERM), (SignalKind::interrupt(), BY_SIGINT)]
        {
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
