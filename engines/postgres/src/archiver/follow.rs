//! Follows one server over one connection.

use std::time::Duration;

use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cutter::{Cut, Cutter};
use super::part::ArchivedPart;
use super::slot;
use super::source::{Fork, Source, kept_from};
use super::tail::Tail;
use super::{ArchiveOptions, ArchiveState, ArchiveWatcher, LogArchive};
use crate::lsn::Lsn;
use crate::replication::{REPORT_EVERY, Received, ReplicationSession, WalMessage, WalStream};

/// The server is asked how it stands no more often than this.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Follows the server until it is told to stop, or the connection ends.
pub(super) async fn follow(
    options: &ArchiveOptions,
    archive: &mut dyn LogArchive,
    watcher: &dyn ArchiveWatcher,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    loop {
        let opened = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(()),
            opened = begin(options, archive) => opened?,
        };
        let Some((stream, keeper)) = opened else { continue };
        let timeline = keeper.timeline;
        let mut follower = Follower { stream, keeper, archive, watcher, options };
        let ended = follower.run(cancel).await;
        // What has come is kept, however it ended.
        let kept = follower.keep().await;
        let durable = follower.keeper.durable;
        match ended {
            Ok(Ended::Stopped) => return kept,
            Ok(Ended::NextTimeline(next, at)) => {
                kept?;
                let mut session = follower.stream.into_session().await?;
                let fork = Fork { before: timeline, next, at };
                note_timeline(&mut session, archive, fork).await?;
            }
            Err(failure) if failure.reason == Reason::LogMissing => {
                kept?;
                note_gap(options, archive, watcher, timeline, durable).await?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// How following one timeline ended.
enum Ended {
    Stopped,
    NextTimeline(u32, Lsn),
}

/// What is kept, and how far.
struct Keeper {
    cutter: Cutter,
    /// Numbers of the pieces of the range that is being filled, and of what lies between them.
    pieces: Option<(u32, u32)>,
    /// Numbers of the first and the last of the quiet parts that the archive ends with.
    quiet: Option<(u32, u32)>,
    /// Up to which time it says so.
    quiet_until: Option<Timestamp>,
    timeline: u32,
    durable: Lsn,
    /// Up to here all is durable, by the server's clock.
    kept_time: Option<Timestamp>,
    server_end: Lsn,
    clock: Option<Timestamp>,
}

impl Keeper {
    /// Whether all is kept that the server has written, as far as is known.
    fn is_level(&self) -> bool {
        self.cutter.position() == self.durable && self.server_end <= self.durable
    }
}

/// Connects, and goes on where the archive ends. `None` where it had to be noted first that a
/// timeline began.
async fn begin(
    options: &ArchiveOptions,
    archive: &mut dyn LogArchive,
) -> Result<Option<(WalStream, Keeper)>, Failure> {
    let mut source = Source::open(options).await?;
    let found = Tail::read(archive, source.lineage).await?;
    let fork = match &found {
        Some(tail) => source.fork_from(tail, archive).await?,
        None => None,
    };
    // Not before it is clear that this server is followed: one that nobody reads fills its disk.
    if slot::look(&source.server.session, &options.slot).await?.is_none() {
        source.session.create_slot(&options.slot).await?;
    }
    if let Some(fork) = fork {
        note_timeline(&mut source.session, archive, fork).await?;
        return Ok(None);
    }
    let tail = match found {
        Some(tail) => tail,
        None => {
            let start = kept_from(&source.server, &options.slot, &source.identity).await?;
            Tail::of_new(source.identity.timeline, start, source.lineage)
        }
    };
    let Source { session, identity, .. } = source;
    let stream = session.stream(Some(&options.slot), tail.start, tail.timeline).await?;
    let keeper = Keeper {
        cutter: tail.cutter,
        pieces: tail.pieces,
        quiet: tail.quiet,
        quiet_until: tail.quiet.and(tail.kept_time),
        timeline: tail.timeline,
        durable: tail.start,
        kept_time: tail.kept_time,
        server_end: identity.position,
        clock: None,
    };
    Ok(Some((stream, keeper)))
}

/// Keeps the history of a timeline that begins.
async fn note_timeline(
    session: &mut ReplicationSession,
    archive: &mut dyn LogArchive,
    Fork { before, next, at }: Fork,
) -> Result<(), Failure> {
    let history = session.history(next).await?;
    let part = ArchivedPart::History { timeline: next, before, at };
    archive.append(json_of(&part)?, history.text.into(), None).await.map(drop)
}

/// The server has log no more that the archive lacks: says so, and begins anew behind it.
async fn note_gap(
    options: &ArchiveOptions,
    archive: &mut dyn LogArchive,
    watcher: &dyn ArchiveWatcher,
    timeline: u32,
    start: Lsn,
) -> Result<(), Failure> {
    let Source { server, mut session, identity, lineage } = Source::open(options).await?;
    let segment = lineage.segment_bytes;
    // Some versions take a slot that was lost as if nothing had happened.
    session.drop_slot(&options.slot).await?;
    session.create_slot(&options.slot).await?;
    let restart = kept_from(&server, &options.slot, &identity).await?;
    // A file is there from its beginning on, or not at all.
    let end = restart.floor(segment).max(Lsn(start.0.div_ceil(segment) * segment));
    let timeline = timeline.max(identity.timeline);
    let part = ArchivedPart::Gap { timeline, start, end };
    tracing::warn!(%start, %end, timeline, "the server has no longer this part of its log");
    archive.append(json_of(&part)?, Bytes::new(), None).await?;
    watcher.gap(&start.to_string(), &end.to_string(), timeline);
    Ok(())
}

fn json_of(part: &ArchivedPart) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(part).map_err(|error| Failure::new(Reason::Internal, error.to_string()))
}

struct Follower<'a> {
    stream: WalStream,
    keeper: Keeper,
    archive: &'a mut dyn LogArchive,
    watcher: &'a dyn ArchiveWatcher,
    options: &'a ArchiveOptions,
}

impl Follower<'_> {
    async fn run(&mut self, cancel: &CancellationToken) -> Result<Ended, Failure> {
        let (max_lag, quiet_after) = (self.options.max_lag, self.options.quiet_after);
        let report_every = REPORT_EVERY.min(quiet_after / 2).max(SHORTEST_PAUSE);
        // When the oldest byte came that is not kept.
        let mut waits_since: Option<Instant> = None;
        // When the last byte came, or it was said that none had come.
        let mut still_since = Instant::now();
        let mut report = Instant::now() + report_every;
        loop {
            let due = waits_since.map_or(report, |since| report.min(since + max_lag));
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(Ended::Stopped),
                () = tokio::time::sleep_until(due) => {
                    if waits_since.is_some_and(|since| since + max_lag <= Instant::now()) {
                        self.keep().await?;
                        waits_since = None;
                    }
                    if still_since + quiet_after <= Instant::now() && self.keep_quiet().await? {
                        still_since = Instant::now();
                    }
                    self.report().await?;
                    report = Instant::now() + report_every;
                }
                message = self.stream.next() => match message? {
                    WalMessage::Data { start, server_end, clock, bytes } => {
                        let came = Instant::now();
                        if self.take(start, server_end, clock, bytes).await? {
                            self.report().await?;
                        }
                        let is_behind = self.keeper.cutter.position() > self.keeper.durable;
                        waits_since = is_behind.then(|| waits_since.unwrap_or(came));
                        still_since = came;
                    }
                    WalMessage::KeepAlive { server_end, clock, wants_reply } => {
                        self.hear(server_end, clock);
                        if wants_reply {
                            self.report().await?;
                        }
                    }
                    WalMessage::NextTimeline(timeline, at) => {
                        return Ok(Ended::NextTimeline(timeline, at));
                    }
                },
            }
            self.tell();
        }
    }

    /// Takes what came. Whether anything was kept.
    async fn take(
        &mut self,
        start: Lsn,
        server_end: Lsn,
        clock: Option<Timestamp>,
        bytes: Bytes,
    ) -> Result<bool, Failure> {
        let position = self.keeper.cutter.position();
        if start != position {
            let message = format!("the server sent its log from {start} on, not from {position}");
            return Err(Failure::new(Reason::DataCorrupted, message));
        }
        let is_end = server_end <= start.plus(bytes.len() as u64);
        (self.keeper.server_end, self.keeper.clock) = (server_end, clock);
        let full = self.keeper.cutter.push(bytes, settled(clock).filter(|_| is_end))?;
        let is_any = !full.is_empty();
        for cut in full {
            self.append(cut).await?;
        }
        Ok(is_any)
    }

    /// Takes what the server says while nothing comes.
    fn hear(&mut self, server_end: Lsn, clock: Option<Timestamp>) {
        let keeper = &mut self.keeper;
        (keeper.server_end, keeper.clock) = (server_end, clock);
        if server_end <= keeper.cutter.position() {
            keeper.cutter.nothing_until(settled(clock));
        }
        if keeper.is_level() {
            keeper.kept_time = keeper.kept_time.max(settled(clock));
        }
    }

    /// Keeps what has come.
    async fn keep(&mut self) -> Result<(), Failure> {
        match self.keeper.cutter.cut() {
            Some(cut) => self.append(cut).await,
            None => Ok(()),
        }
    }

    async fn append(&mut self, cut: Cut) -> Result<(), Failure> {
        let Cut { mut part, bytes, is_full } = cut;
        let (end, kept_time) = (part.end, part.kept_time());
        let replaces = if is_full { self.keeper.pieces.take() } else { None };
        part.replaces = replaces.map(|(first, _)| first);
        let about = json_of(&ArchivedPart::Wal(part))?;
        let number = self.archive.append(about, bytes, replaces).await?;
        let keeper = &mut self.keeper;
        if !is_full {
            let first = keeper.pieces.map_or(number, |(first, _)| first);
            keeper.pieces = Some((first, number));
        }
        keeper.quiet = None;
        keeper.durable = end;
        keeper.kept_time = keeper.kept_time.max(kept_time);
        Ok(())
    }

    /// Keeps that nothing has come, in the place of what was said of that before. Whether it did.
    async fn keep_quiet(&mut self) -> Result<bool, Failure> {
        let keeper = &self.keeper;
        let clock = keeper.kept_time.filter(|time| Some(*time) > keeper.quiet_until);
        let (Some(clock), true) = (clock, keeper.is_level()) else { return Ok(false) };
        let (timeline, at, quiet) = (keeper.timeline, keeper.durable, keeper.quiet);
        // All of them, so that none is needed to say why those before it are gone.
        let first = quiet.map(|(first, _)| first);
        let about = json_of(&ArchivedPart::Quiet { timeline, at, clock, replaces: first })?;
        let number = self.archive.append(about, Bytes::new(), quiet).await?;
        let keeper = &mut self.keeper;
        keeper.quiet = Some((first.unwrap_or(number), number));
        keeper.quiet_until = Some(clock);
        // Once the range is full nobody needs it: what comes behind it says the same.
        if let Some((_, last)) = &mut self.keeper.pieces {
            *last = number;
        }
        Ok(true)
    }

    async fn report(&mut self) -> Result<(), Failure> {
        let written = self.keeper.cutter.position();
        let received = Received { written, flushed: self.keeper.durable };
        self.stream.report(received, Timestamp::now(), self.keeper.is_level()).await
    }

    fn tell(&self) {
        self.watcher.update(ArchiveState {
            timeline: self.keeper.timeline,
            kept: self.keeper.durable.to_string(),
            behind_bytes: self.keeper.server_end.0.saturating_sub(self.keeper.durable.0),
            kept_time: self.keeper.kept_time,
            clock: self.keeper.clock,
        });
    }
}

/// Up to which time nothing is still on its way when the server says that its log ends here: the
/// record of a transaction's end has its time before it is written, and with `synchronous_commit` off
/// it is written three rounds of the WAL writer later (`wal_writer_delay`, 200 ms).
fn settled(clock: Option<Timestamp>) -> Option<Timestamp> {
    clock?.checked_sub(SignedDuration::from_secs(1)).ok()
}
