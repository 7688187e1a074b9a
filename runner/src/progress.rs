//! Progress, from whoever moves bytes to whoever watches: the operator, a
//! person's terminal, or a log.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dbbackup_contract::{Progress, ProgressPhase};
use dbbackup_engine::ProgressSink;
use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report_channel::ReportChannel;
use crate::speed::Speed;

/// A log without a terminal gets a line so often.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Completes what engines say (speed, share, time left) and passes it on.
pub(crate) struct ProgressBoard<'a> {
    channel: Option<&'a ReportChannel>,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

struct State {
    speed: Speed,
    last_logged: Instant,
}

impl<'a> ProgressBoard<'a> {
    /// Shows progress to the operator if there is a channel, else on the
    /// terminal that standard error is, else in the log.
    pub(crate) fn new(channel: Option<&'a ReportChannel>) -> Self {
        let now = Instant::now();
        let on_terminal = channel.is_none() && std::io::stderr().is_terminal();
        Self {
            channel,
            bar: on_terminal.then(bar),
            state: Mutex::new(State { speed: Speed::starting_at(now), last_logged: now }),
        }
    }

    /// Bytes moved so far, for work that has neither databases nor a known end.
    pub(crate) fn bytes(&self, current: &str, bytes_done: u64, bytes_total: Option<u64>) {
        self.update(Progress {
            phase: ProgressPhase::Transferring,
            current: Some(current.to_owned()),
            bytes_done,
            bytes_total,
            ..Progress::default()
        });
    }

    /// Takes the bar off the terminal, so that what is printed next stands alone.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl ProgressSink for ProgressBoard<'_> {
    fn update(&self, mut progress: Progress) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        progress.bytes_per_second = state.speed.observe(now, progress.bytes_done);
        let progress = progress.estimated();
        if now.duration_since(state.last_logged) >= LOG_INTERVAL {
            state.last_logged = now;
            tracing::info!("{}", describe(&progress));
        }
        drop(state);
        if let Some(bar) = &self.bar {
            bar.set_message(describe(&progress));
            match progress.bytes_total {
                Some(total) => bar.set_length(total.max(progress.bytes_done)),
                None => bar.unset_length(),
            }
            bar.set_position(progress.bytes_done);
        }
        if let Some(channel) = self.channel {
            channel.progress(progress);
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_bar} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

/// One line: `shop: 1.20 GiB of about 4.00 GiB (30%), 98.00 MiB/s, 29 seconds left`.
fn describe(progress: &Progress) -> String {
    let mut line = match (&progress.current, progress.phase) {
        (Some(current), ProgressPhase::Transferring) => format!("{current}: "),
        (_, phase) => format!("{phase:?}: ").to_lowercase(),
    };
    line += &BinaryBytes(progress.bytes_done).to_string();
    if let (Some(total), Some(percent)) = (progress.bytes_total, progress.percent) {
        line += &format!(" of about {} ({percent}%)", BinaryBytes(total));
    }
    line += &format!(", {}/s", BinaryBytes(progress.bytes_per_second));
    if let Some(left) = progress.remaining_seconds {
        line += &format!(", {} left", HumanDuration(Duration::from_secs(left)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_says_what_how_much_and_how_long() {
        let progress = Progress {
            phase: ProgressPhase::Transferring,
            current: Some("shop".into()),
            bytes_done: 512 << 20,
            bytes_total: Some(1 << 30),
            bytes_per_second: 64 << 20,
            ..Progress::default()
        };
        assert_eq!(
            describe(&progress.estimated()),
            "shop: 512.00 MiB of about 1.00 GiB (50%), 64.00 MiB/s, 8 seconds left"
        );
        let unknown = Progress { phase: ProgressPhase::Preparing, ..Progress::default() };
        assert_eq!(describe(&unknown), "preparing: 0 B, 0 B/s");
    }
}
