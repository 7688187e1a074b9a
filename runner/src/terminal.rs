//! The terminal that standard error may be: bars and lines share it.

use std::io::{IsTerminal as _, Write};
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// All bars of the program; lines that are written meanwhile go above them.
static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// Shows a bar below whatever is on the terminal.
pub(crate) fn show(bar: ProgressBar) -> ProgressBar {
    BARS.add(bar)
}

/// Writes to standard error, above the bar if there is one. Whoever has stopped
/// listening changes nothing.
pub(crate) fn tell(text: &str) {
    let _ = above_the_bar(|| std::io::stderr().write_all(text.as_bytes()));
}

fn above_the_bar<T>(write: impl FnOnce() -> T) -> T {
    // What is no terminal has no bars, and need not be asked for any.
    if std::io::stderr().is_terminal() { BARS.suspend(write) } else { write() }
}

/// Sends the log to standard error. A Job's log says when and where; a person is
/// told what, unless `DBBACKUP_LOG` asks for all of it.
pub(crate) fn log(is_for_a_job: bool) {
    let asked = EnvFilter::try_from_env("DBBACKUP_LOG").ok();
    let is_short = !is_for_a_job && asked.is_none();
    let usual = if is_for_a_job { "info" } else { "warn" };
    let log = tracing_subscriber::fmt()
        .with_env_filter(asked.unwrap_or_else(|| EnvFilter::new(usual)))
        .with_writer(AboveTheBar)
        .with_ansi(std::io::stderr().is_terminal() && wants_colours());
    let fit_to_show = filter_fn(is_fit_to_show);
    if is_short {
        log.without_time().with_target(false).finish().with(fit_to_show).init();
    } else {
        log.finish().with(fit_to_show).init();
    }
}

/// Whether a line may be shown to anybody at all. Libraries of the object stores and
/// of HTTP write whole requests into their debug logs, tokens included.
fn is_fit_to_show(line: &Metadata<'_>) -> bool {
    const TALKATIVE: [&str; 5] = ["aws_", "hyper", "h2", "rustls", "tower"];
    *line.level() <= Level::WARN || !TALKATIVE.iter().any(|name| line.target().starts_with(name))
}

/// <https://no-color.org>: set to anything but nothing, it means no.
fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct AboveTheBar;

impl<'a> MakeWriter<'a> for AboveTheBar {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for AboveTheBar {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        above_the_bar(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
