//! `archive`: a server's log into a repository.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use dbbackup_contract::{DurationText, ExitCode, Failure, Reason};
use dbbackup_postgres::{ArchiveState, ArchiveWatcher, slot_name};
use tokio_util::sync::CancellationToken;

use crate::cli::ArchiveArgs;
use crate::commands::{print, repository_access, server_access};
use crate::progress::ProgressBoard;
use crate::work::{self, Archiving, LogWatcher};

/// How often a line says how it stands.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Shortest and longest `--max-lag`.
const LAGS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(24 * 3600)];

pub(super) async fn archive(
    args: ArchiveArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let max_lag = lag(&args.max_lag)?;
    let repository = repository_access(&args.repository)?;
    let access = server_access(&args.server)?;
    let server = &args.server.server;
    let series =
        args.series.unwrap_or_else(|| format!("postgresql/{}:{}", server.host, server.port));
    let slot = args.slot.unwrap_or_else(|| slot_name(&series));
    let board = ProgressBoard::new(None);
    let stall_timeout = args.repository.stall_timeout();
    let order = work::Order::by_hand(&repository, stall_timeout, &board, cancel);
    let what = Archiving { server: &access, series: &series, slot: &slot, max_lag };
    let lines = Lines(Mutex::new(None));
    let ended = work::archive(&order, &what, &lines).await;
    board.clear();
    ended.map(|()| ExitCode::Success).map_err(|failure| work::named(failure, &repository.name))
}

fn lag(text: &str) -> Result<Duration, Failure> {
    let wrong = |why: String| {
        Failure::new(Reason::UsageError, format!("--max-lag {text}: {why}"))
            .with_hint("Write 10s, or 500ms.")
    };
    let lag = DurationText::new(text).parse().map_err(|error| wrong(error.to_string()))?;
    if (LAGS[0]..=LAGS[1]).contains(&lag) {
        return Ok(lag);
    }
    Err(wrong("from 100ms to 24h".to_owned()))
}

/// Says now and then how it stands.
struct Lines(Mutex<Option<Instant>>);

impl ArchiveWatcher for Lines {
    fn update(&self, state: ArchiveState) {
        let Ok(mut said) = self.0.lock() else { return };
        if said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            return;
        }
        *said = Some(Instant::now());
        print::line(&format!(
            "kept up to {} of timeline {}, {} behind",
            state.kept,
            state.timeline,
            print::bytes(state.behind_bytes)
        ));
    }

    fn gap(&self, start: &str, end: &str, timeline: u32) {
        print::line(&format!(
            "the server has no longer its log from {start} to {end} of timeline {timeline}: what is \
             archived goes on behind it, and a new base is needed"
        ));
    }
}

impl LogWatcher for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_durations_within_reason() {
        assert_eq!(lag("500ms").unwrap(), Duration::from_millis(500));
        for wrong in ["0s", "50ms", "2d", "soon", ""] {
            let failure = lag(wrong).unwrap_err();
            assert_eq!(failure.reason, Reason::UsageError, "{failure}");
        }
    }
}
