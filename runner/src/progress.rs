//! Progress, from whoever moves bytes to whoever watches: the operator, a
//! person's terminal, or a log.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dbbackup_contract::{LogStatus, Progress, ProgressPhase};
use dbbackup_engine::ProgressSink;
use indicatif::{DecimalBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::AbortHandle;

use crate::report_channel::ReportChannel;
use crate::speed::Speed;
use crate::terminal;

/// A log without a terminal gets a line so often.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// Work that is done sooner shows nothing: it would only flicker.
const SHOWN_AFTER: Duration = Duration::from_millis(300);
/// How often the bar moves while there is nothing new: it says that the program lives.
const TICK: Duration = Duration::from_millis(250);
/// A narrow terminal cuts the message's end off, so that the line is never wrapped.
const WITHOUT_END: &str = "{spinner} {elapsed_precise} {wide_msg}";
/// The same where the end is known.
const WITH_END: &str = "{spinner} {elapsed_precise} {bar:12} {wide_msg}";

/// Completes what engines say (speed, share, time left) and passes it on.
pub(crate) struct ProgressBoard<'a> {
    channel: Option<&'a ReportChannel>,
    bar: Option<Bar>,
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
        let on_terminal = channel.is_none() && std::io::stderr().is_terminal();
        Self { channel, bar: on_terminal.then(Bar::shown_soon), ..Self::silent() }
    }

    /// For work whose own output is on the terminal.
    pub(crate) fn silent() -> Self {
        let now = Instant::now();
        let state = State { speed: Speed::starting_at(now), last_logged: now };
        Self { channel: None, bar: None, state: Mutex::new(state) }
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

    /// What the work is doing, where nothing else is known of it.
    pub(crate) fn phase(&self, phase: ProgressPhase) {
        self.update(Progress { phase, ..Progress::default() });
    }

    /// How a log is archived: work without an end, of which nobody sees a bar.
    pub(crate) fn log(&self, status: LogStatus) {
        if let Some(channel) = self.channel {
            channel.log(status);
        }
    }

    /// Takes the bar off the terminal, so that what is printed next stands alone.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.clear();
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
            bar.update(&progress);
        }
        if let Some(channel) = self.channel {
            channel.progress(progress);
        }
    }
}

/// The line on a terminal; gone when dropped, however the work ends.
struct Bar {
    line: ProgressBar,
    showing: AbortHandle,
}

impl Bar {
    fn shown_soon() -> Self {
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
            .with_style(style(WITHOUT_END))
            .with_message("preparing");
        let later = line.clone();
        let showing = tokio::spawn(async move {
            tokio::time::sleep(SHOWN_AFTER).await;
            terminal::show(later).enable_steady_tick(TICK);
        });
        Self { line, showing: showing.abort_handle() }
    }

    fn update(&self, progress: &Progress) {
        let length = progress.percent.and(progress.bytes_total);
        if length.is_some() != self.line.length().is_some() {
            let template = if length.is_some() { WITH_END } else { WITHOUT_END };
            self.line.set_style(style(template));
        }
        match length {
            Some(total) => self.line.set_length(total.max(progress.bytes_done)),
            None => self.line.unset_length(),
        }
        self.line.set_position(progress.bytes_done);
        self.line.set_message(message(progress));
    }

    fn clear(&self) {
        self.showing.abort();
        self.line.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Beside a bar: ` 30%, 29s left: shop, 1.20 GB of about 4.00 GB, 98.00 MB/s`.
/// What matters most stands first.
fn message(progress: &Progress) -> String {
    let mut line = String::new();
    if let Some(percent) = progress.percent {
        line += &format!("{percent:>2}%");
        if let Some(left) = progress.remaining_seconds {
            line += &format!(", {:#} left", HumanDuration(Duration::from_secs(left)));
        }
        line += ": ";
    }
    line += &subject(progress);
    if progress.databases_total > 1 && progress.phase == ProgressPhase::Transferring {
        let number = progress.databases_total.min(progress.databases_done + 1);
        line += &format!(" ({number} of {})", progress.databases_total);
    }
    if progress.bytes_done > 0 {
        line += &format!(", {}", amounts(progress, ""));
    }
    line
}

/// In a log: `shop: 1.20 GB of about 4.00 GB (30%), 98.00 MB/s, 29 seconds left`.
fn describe(progress: &Progress) -> String {
    let percent = progress.percent.map_or_else(String::new, |percent| format!(" ({percent}%)"));
    let mut line = format!("{}: {}", subject(progress), amounts(progress, &percent));
    if let Some(left) = progress.remaining_seconds {
        line += &format!(", {} left", HumanDuration(Duration::from_secs(left)));
    }
    line
}

fn subject(progress: &Progress) -> String {
    match (&progress.current, progress.phase) {
        (Some(current), ProgressPhase::Transferring) => current.clone(),
        (_, phase) => format!("{phase:?}").to_lowercase(),
    }
}

fn amounts(progress: &Progress, percent: &str) -> String {
    let mut line = DecimalBytes(progress.bytes_done).to_string();
    if let (Some(total), Some(_)) = (progress.bytes_total, progress.percent) {
        line += &format!(" of about {}{percent}", DecimalBytes(total));
    }
    line + &format!(", {}/s", DecimalBytes(progress.bytes_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_says_what_how_much_and_how_long() {
        let progress = Progress {
            phase: ProgressPhase::Transferring,
            current: Some("shop".into()),
            bytes_done: 512_000_000,
            bytes_total: Some(1_024_000_000),
            bytes_per_second: 64_000_000,
            databases_done: 1,
            databases_total: 3,
            ..Progress::default()
        };
        assert_eq!(
            describe(&progress.clone().estimated()),
            "shop: 512.00 MB of about 1.02 GB (50%), 64.00 MB/s, 8 seconds left"
        );
        assert_eq!(
            message(&progress.estimated()),
            "50%, 8s left: shop (2 of 3), 512.00 MB of about 1.02 GB, 64.00 MB/s"
        );
        let unknown = Progress { phase: ProgressPhase::Preparing, ..Progress::default() };
        assert_eq!(describe(&unknown), "preparing: 0 B, 0 B/s");
        assert_eq!(message(&unknown), "preparing");
    }
}
