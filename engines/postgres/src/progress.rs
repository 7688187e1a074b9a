//! How far a run has come, for whoever watches.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dbbackup_contract::{Progress, ProgressPhase};
use dbbackup_engine::ProgressSink;

/// The speed is that of the last half minute.
const SPEED_WINDOW: Duration = Duration::from_secs(30);
/// Updates are not more frequent than this.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// Collects what is done and tells the sink now and then.
pub(crate) struct Meter<'a> {
    sink: &'a dyn ProgressSink,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    /// Bytes that are expected of each database that is not done.
    expected: u64,
    samples: VecDeque<(Instant, u64)>,
    told: Option<Instant>,
}

impl<'a> Meter<'a> {
    /// `expected` bytes in `databases` databases.
    pub(crate) fn new(sink: &'a dyn ProgressSink, databases: usize, expected: u64) -> Self {
        let progress = Progress {
            databases_total: u32::try_from(databases).unwrap_or(u32::MAX),
            bytes_total: Some(expected),
            phase: ProgressPhase::Transferring,
            ..Progress::default()
        };
        let state = State { progress, expected, samples: VecDeque::new(), told: None };
        Self { sink, state: Mutex::new(state) }
    }

    /// Work on a database begins.
    pub(crate) fn begin(&self, database: &str) {
        self.change(true, |state| state.progress.current = Some(shortened(database)));
    }

    /// The restored databases are being put in place, or something is compared.
    pub(crate) fn phase(&self, phase: ProgressPhase) {
        self.change(true, |state| state.progress.phase = phase);
    }

    /// Bytes have moved.
    pub(crate) fn moved(&self, bytes: u64) {
        self.change(false, |state| state.progress.bytes_done += bytes);
    }

    /// A database is done, of which `expected` bytes had been expected.
    pub(crate) fn end(&self, expected: u64) {
        self.change(true, |state| {
            state.progress.databases_done += 1;
            state.expected = state.expected.saturating_sub(expected);
            // What is done counts as it was; only the rest is still a guess.
            state.progress.bytes_total = Some(state.progress.bytes_done + state.expected);
        });
    }

    fn change(&self, at_once: bool, change: impl FnOnce(&mut State)) {
        let Ok(mut state) = self.state.lock() else { return };
        change(&mut state);
        let now = Instant::now();
        if !at_once && state.told.is_some_and(|told| now - told < MIN_INTERVAL) {
            return;
        }
        state.told = Some(now);
        let done = state.progress.bytes_done;
        state.samples.push_back((now, done));
        while state.samples.len() > 2 && now - state.samples[0].0 > SPEED_WINDOW {
            state.samples.pop_front();
        }
        let (since, then) = state.samples[0];
        let milliseconds = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
        if let Some(speed) = ((done - then) * 1000).checked_div(milliseconds) {
            state.progress.bytes_per_second = speed;
        }
        self.sink.update(state.progress.clone().estimated());
    }
}

/// A status has room for 256 bytes of it.
fn shortened(name: &str) -> String {
    name[..name.floor_char_boundary(256)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Progress>>);

    impl ProgressSink for Heard {
        fn update(&self, progress: Progress) {
            self.0.lock().unwrap().push(progress);
        }
    }

    #[test]
    fn the_total_follows_what_databases_turned_out_to_be() {
        let heard = Heard::default();
        let meter = Meter::new(&heard, 2, 1000);
        meter.begin("a");
        meter.moved(100);
        meter.end(600);
        let heard = heard.0.into_inner().unwrap();
        let last = heard.last().unwrap();
        assert_eq!((last.bytes_done, last.bytes_total), (100, Some(500)));
        assert_eq!((last.databases_done, last.databases_total), (1, 2));
    }
}
