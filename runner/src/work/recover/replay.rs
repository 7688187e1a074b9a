//! The server beside the runner: it is started, listened to while it replays, and ended; and what
//! it says is compared with what was planned.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dbbackup_contract::{Failure, Progress, ProgressPhase, ReachedPoint, Reason};
use dbbackup_engine::ProgressSink as _;
use dbbackup_postgres::major_of;
use dbbackup_shim::SignalName;
use jiff::Timestamp;
use tokio::time::Instant;

use super::super::Order;
use super::arguments::{ServerFolder, arguments};
use super::words::{self, Word, word};
use crate::shim_link::{Event, FoundProgram, Listening, ShimLink};

/// How long the server's container may take to come; it has been started before the runner's.
const COMING: Duration = Duration::from_secs(120);
/// How long a server that failed may take to end before its processes are killed.
const ENDING: Duration = Duration::from_secs(8);
/// How often the control file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Lines that tell why a server has ended.
const LAST_WORDS: usize = 3;

/// Where a server has to end, and where it is.
pub(super) struct Expected<'a> {
    /// Its data folder.
    pub(super) data_dir: &'a Path,
    /// The version of the base's server, `17.11`.
    pub(super) version: &'a str,
    /// Where the record begins behind which it stops.
    pub(super) record: u64,
    /// Where that ends.
    pub(super) end: u64,
    /// Its timeline.
    pub(super) timeline: u32,
}

/// The server's container.
pub(super) struct Beside<'a> {
    listening: Listening,
    link: Option<ShimLink>,
    pub(super) folder: ServerFolder<'a>,
}

impl<'a> Beside<'a> {
    /// Waits for its container, where the image holds a server of the version that is expected:
    /// that is known before hours of copying.
    ///
    /// # Errors
    /// `ServerImageUnsuitable`, `ServerNotReady`.
    pub(super) async fn reach(
        order: &Order<'_>,
        folder: &'a Path,
        socket: &Path,
        version: &str,
    ) -> Result<Self, Failure> {
        let listening = ShimLink::listen(socket)?;
        let mut beside = Self { listening, link: None, folder: ServerFolder(folder) };
        order.step(beside.program(version)).await?;
        Ok(beside)
    }

    /// The server's program. A container that was restarted meanwhile has another link.
    pub(super) async fn program(&mut self, version: &str) -> Result<FoundProgram, Failure> {
        let major = major_of(version);
        if let Some(link) = &mut self.link {
            match link.find("postgres", major).await {
                Err(failure) if failure.reason == Reason::ServerNotReady => {}
                found => return suitable(found?, version),
            }
        }
        let link = self.link.insert(self.listening.accept(COMING).await?);
        suitable(link.find("postgres", major).await?, version)
    }

    /// Starts the server, lets it replay, and shuts it down. Where it ended, by its own words.
    ///
    /// # Errors
    /// `RecoveryFailed`, `ServerImageUnsuitable`, `VolumeTooSmall` with the server's words,
    /// `TargetMissed`, `Stalled`, `Interrupted`. No server runs then.
    pub(super) async fn recover(
        &mut self,
        order: &Order<'_>,
        expected: &Expected<'_>,
    ) -> Result<ReachedPoint, Failure> {
        self.folder.prepare()?;
        let found = order.step(self.program(expected.version)).await?;
        let major = major_of(expected.version).unwrap_or(0);
        let arguments = arguments(expected.data_dir, &self.folder, major);
        let link = self.start(order, &found, &arguments).await?;
        let mut replay = Replay::new(order, expected);
        let ended = order.step(replay.follow(link)).await;
        if ended.is_err() && !replay.has_ended {
            end(link).await;
        }
        ended
    }

    /// Starts the server; its words come over the link.
    pub(super) async fn start(
        &mut self,
        order: &Order<'_>,
        found: &FoundProgram,
        arguments: &[String],
    ) -> Result<&mut ShimLink, Failure> {
        // Where it fails it is not known whether it has started; without its link it ends.
        let mut link = self.link.take().ok_or_else(no_link)?;
        // Whatever its container says: its words are to be known ones.
        let environment = [("LC_ALL".to_owned(), "C".to_owned())].into();
        order.step(link.start(&found.program, arguments, &environment)).await?;
        Ok(self.link.insert(link))
    }

    /// Lets its container end.
    pub(super) async fn leave(self) {
        if let Some(link) = self.link {
            link.bye().await;
        }
    }
}

fn no_link() -> Failure {
    Failure::new(Reason::Internal, "the server's container is not connected")
}

/// Refuses a server of another major version: it cannot read these files. What a program says of
/// itself: `postgres (PostgreSQL) 17.11 (Debian 17.11-1)`.
fn suitable(found: FoundProgram, version: &str) -> Result<FoundProgram, Failure> {
    let own = found.version.split_whitespace().find_map(major_of);
    if own.is_some() && own == major_of(version) {
        return Ok(found);
    }
    let FoundProgram { program, version: own } = &found;
    let message = format!(
        "the image's server, {program}, is {own:?}, and the base is of a server of version {version}"
    );
    Err(Failure::new(Reason::ServerImageUnsuitable, message))
}

/// Ends a server whose files are of no use any more.
pub(super) async fn end(link: &mut ShimLink) {
    for signal in [SignalName::Quit, SignalName::Kill] {
        let ending = async {
            link.signal(signal).await?;
            while !matches!(link.next().await?, Event::Ended { .. }) {}
            Ok::<_, Failure>(())
        };
        match tokio::time::timeout(ENDING, ending).await {
            Ok(Ok(())) => return,
            // With its link the program ends, and with it the server.
            Ok(Err(failure)) => return tracing::warn!(%failure, "the server's end is not known"),
            Err(_) => {}
        }
    }
    tracing::warn!("the server does not end");
}

/// What is known of a replay.
struct Replay<'a> {
    order: &'a Order<'a>,
    expected: &'a Expected<'a>,
    /// Where it begins.
    begins: Option<u64>,
    stopped: Option<u64>,
    timeline: Option<u32>,
    last_transaction: Option<Timestamp>,
    is_complete: bool,
    is_stopping: bool,
    has_ended: bool,
    /// What it has complained of, the last of it.
    complaints: Complaints,
}

impl<'a> Replay<'a> {
    fn new(order: &'a Order<'a>, expected: &'a Expected<'a>) -> Self {
        Self {
            order,
            expected,
            begins: None,
            stopped: None,
            timeline: None,
            last_transaction: None,
            is_complete: false,
            is_stopping: false,
            has_ended: false,
            complaints: Complaints::default(),
        }
    }

    /// Listens until the server has ended.
    async fn follow(&mut self, link: &mut ShimLink) -> Result<ReachedPoint, Failure> {
        let mut life = Life::of(self.expected.data_dir);
        loop {
            tokio::select! {
                event = link.next() => match event? {
                    Event::Line(line) => {
                        if words::is_progress(&line) {
                            life.sign();
                        }
                        if self.heard(&line)? {
                            self.is_stopping = true;
                            link.signal(SignalName::Int).await?;
                        }
                    }
                    Event::Ended { code, signal } => {
                        self.has_ended = true;
                        return self.ended(code, signal);
                    }
                },
                () = tokio::time::sleep(LOOK) => life.look(self.order.stall_timeout)?,
            }
        }
    }

    /// Takes a line. Whether the server is to be shut down now.
    fn heard(&mut self, line: &str) -> Result<bool, Failure> {
        words::show(line);
        match word(line) {
            None | Some(Word::Consistent) => {}
            Some(Word::Begins(at)) => {
                self.begins = Some(at);
                self.show(at);
            }
            Some(Word::Replayed(at)) => self.show(at),
            Some(Word::StoppedBehind(at)) => {
                self.show(at);
                self.stopped = Some(at);
                if at != self.expected.record {
                    return Err(self.missed(&format!("behind {}", words::shown(at))));
                }
            }
            Some(Word::StoppedElsewhere(said)) => return Err(self.missed(&said)),
            Some(Word::LastTransaction(time)) => self.last_transaction = Some(time),
            Some(Word::NewTimeline(timeline)) => self.timeline = Some(timeline),
            Some(Word::Complete) => self.is_complete = true,
            Some(Word::Ready) => {
                self.has_arrived()?;
                return Ok(!self.is_stopping);
            }
            Some(complaint) => self.complaints.push(complaint),
        }
        Ok(false)
    }

    /// A server that is ready without having said all of this has not recovered.
    fn has_arrived(&self) -> Result<(), Failure> {
        if self.stopped != Some(self.expected.record) {
            return Err(self.missed("without having stopped at it"));
        }
        if !self.is_complete || self.timeline.is_none_or(|own| own <= self.expected.timeline) {
            let own = self.timeline.map_or_else(|| "none".to_owned(), |own| own.to_string());
            let old = self.expected.timeline;
            return Err(self.missed(&format!("timeline {own} after {old}, not a new one")));
        }
        Ok(())
    }

    fn missed(&self, how: &str) -> Failure {
        let wanted = words::shown(self.expected.record);
        let message =
            format!("the server should have stopped behind the record at {wanted}: {how}");
        Failure::new(Reason::TargetMissed, message)
    }

    fn show(&self, at: u64) {
        let begins = self.begins.unwrap_or(at);
        self.order.board.update(Progress {
            phase: ProgressPhase::Recovering,
            position: Some(words::shown(at)),
            bytes_done: at.saturating_sub(begins),
            bytes_total: Some(self.expected.end.saturating_sub(begins)),
            ..Progress::default()
        });
    }

    fn ended(&self, code: Option<i32>, signal: Option<i32>) -> Result<ReachedPoint, Failure> {
        match self.timeline {
            Some(timeline) if self.is_stopping && code == Some(0) => Ok(ReachedPoint {
                lsn: words::shown(self.expected.end),
                timeline,
                last_transaction_time: self.last_transaction,
            }),
            _ => Err(self.complaints.why_ended(code, signal)),
        }
    }
}

/// What a server has complained of, the last of it.
#[derive(Default)]
pub(super) struct Complaints(Vec<Word>);

impl Complaints {
    pub(super) fn push(&mut self, complaint: Word) {
        if self.0.len() == LAST_WORDS {
            self.0.remove(0);
        }
        self.0.push(complaint);
    }

    /// Why a server has ended that should not have.
    pub(super) fn why_ended(&self, code: Option<i32>, signal: Option<i32>) -> Failure {
        let how = match (code, signal) {
            (_, Some(9)) => "was killed".to_owned(),
            (_, Some(signal)) => format!("was ended by signal {signal}"),
            (Some(code), None) => format!("has ended with code {code}"),
            (None, None) => "has ended".to_owned(),
        };
        let said: Vec<_> = self.0.iter().map(said).collect();
        let message = match said.as_slice() {
            [] => format!("the server {how}"),
            said => format!("the server {how}: {}", said.join("; ")),
        };
        if signal == Some(9) && said.is_empty() {
            return Failure::new(Reason::ChildKilled, message).with_hint(
                "If memory was short, raise the limit of the pod's container `server`.",
            );
        }
        let of = |kind: fn(&Word) -> bool| self.0.iter().any(kind);
        let reason = if of(|word| matches!(word, Word::NoRoom(_))) {
            Reason::VolumeTooSmall
        } else if of(|word| matches!(word, Word::Unsuitable(_))) {
            Reason::ServerImageUnsuitable
        } else {
            Reason::RecoveryFailed
        };
        Failure::new(reason, message)
    }
}

fn said(word: &Word) -> &str {
    match word {
        Word::Complaint(said) | Word::Unsuitable(said) | Word::NoRoom(said) => said,
        _ => "",
    }
}

/// Whether a server lives: it says that it goes on, or its control file changes. That it does whenever
/// pages of what it has replayed are written, which a server before 15, that says nothing of its
/// progress, does as well. The checkpoint at the end of a recovery is silent, but with the small
/// cache that the server has it is short, too.
struct Life {
    control: PathBuf,
    changed: Option<SystemTime>,
    sign: Instant,
}

impl Life {
    fn of(data_dir: &Path) -> Self {
        let control = data_dir.join("global/pg_control");
        Self { control, changed: None, sign: Instant::now() }
    }

    fn sign(&mut self) {
        self.sign = Instant::now();
    }

    fn look(&mut self, limit: Duration) -> Result<(), Failure> {
        let changed = std::fs::metadata(&self.control).and_then(|found| found.modified()).ok();
        if changed != self.changed {
            self.changed = changed;
            self.sign();
        }
        let silent = self.sign.elapsed();
        if silent < limit {
            return Ok(());
        }
        let seconds = silent.as_secs();
        let message =
            format!("the server that is recovered has done nothing visible for {seconds} s");
        Err(Failure::new(Reason::Stalled, message)
            .with_hint("Look at the log of the pod's container `server`, and for a slow volume."))
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
