//! Follows one server over one connection.

use std::time::Duration;

use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ancestry::Ancestry;
use super::cutter::{Cut, Cutter};
use super::part::ArchivedPart;
use super::slot;
use super::tail::Tail;
use super::{ArchiveOptions, ArchiveState, ArchiveWatcher, LogArchive};
use crate::lsn::Lsn;
use crate::replication::{
    REPORT_EVERY, Received, ReplicationSession, SystemIdentity, WalMessage, WalStream,
};
use crate::server::Server;
use crate::wal::Lineage;

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
        let mut follower = Follower { stream, keeper, archive, watcher, max_lag: options.max_lag };
        let ended = follower.run(cancel).await;
        // What has come is kept, however it ended.
        let kept = follower.keep().await;
        let durable = follower.keeper.durable;
        match ended {
            Ok(Ended::Stopped) => return kept,
            Ok(Ended::NextTimeline(next, at)) => {
                kept?;
                let mut session = follower.stream.into_session().await?;
                note_timeline(&mut session, archive, (timeline, next), at).await?;
            }
            Err(failure) if failure.reason == Reason::LogMissing => {
                kept?;
                note_gap(options, archive, timeline, durable).await?;
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
    /// Numbers of the pieces of the range that is being filled.
    pieces: Option<(u32, u32)>,
    timeline: u32,
    durable: Lsn,
    server_end: Lsn,
    clock: Option<Timestamp>,
}

/// Connects, and goes on where the archive ends. `None` where it had to be noted first that a
/// timeline began.
async fn begin(
    options: &ArchiveOptions,
    archive: &mut dyn LogArchive,
) -> Result<Option<(WalStream, Keeper)>, Failure> {
    let Source { server, mut session, identity, lineage } = Source::open(options).await?;
    if slot::look(&server.session, &options.slot).await?.is_none() {
        session.create_slot(&options.slot).await?;
    }
    let tail = match Tail::read(archive, lineage).await? {
        Some(tail) => tail,
        None => {
            // The beginning of a new archive: where the slot keeps the log from.
            let start = kept_from(&server, options, &identity).await?.floor(lineage.segment_bytes);
            let timeline = identity.timeline;
            let cutter = Cutter::new(timeline, start, start, lineage);
            Tail { timeline, start, cutter, pieces: None }
        }
    };
    if tail.timeline > identity.timeline {
        let message = format!(
            "the server is on timeline {}, and the archive has timeline {} already",
            identity.timeline, tail.timeline
        );
        return Err(Failure::new(Reason::ServerGoneAway, message)
            .with_hint("Is this an old primary? Its Service should lead to the new one."));
    }
    if tail.timeline < identity.timeline {
        let history = session.history(identity.timeline).await?;
        let lineage = Ancestry::read(&history.text);
        let Some((next, at)) = lineage.after(tail.timeline, identity.timeline) else {
            let message = format!(
                "the server's timeline {} does not come from timeline {}, which the archive has",
                identity.timeline, tail.timeline
            );
            return Err(Failure::new(Reason::TimelineForeign, message));
        };
        // What was archived behind that is of no server any more, and stays where it is.
        if at < tail.start {
            note_timeline(&mut session, archive, (tail.timeline, next), at).await?;
            return Ok(None);
        }
    }
    let stream = session.stream(Some(&options.slot), tail.start, tail.timeline).await?;
    let keeper = Keeper {
        cutter: tail.cutter,
        pieces: tail.pieces,
        timeline: tail.timeline,
        durable: tail.start,
        server_end: identity.position,
        clock: None,
    };
    Ok(Some((stream, keeper)))
}

/// A server, over both protocols.
struct Source {
    server: Server,
    session: ReplicationSession,
    identity: SystemIdentity,
    lineage: Lineage,
}

impl Source {
    async fn open(options: &ArchiveOptions) -> Result<Self, Failure> {
        let server = Server::open(&options.server).await?;
        let mut session = ReplicationSession::open(&options.server).await?;
        let identity = session.identify().await?;
        let segment_bytes = segment_bytes(&server).await?;
        let lineage = Lineage { system_identifier: identity.system_identifier, segment_bytes };
        Ok(Self { server, session, identity, lineage })
    }
}

/// From where on the slot keeps the log.
async fn kept_from(
    server: &Server,
    options: &ArchiveOptions,
    identity: &SystemIdentity,
) -> Result<Lsn, Failure> {
    let slot = slot::look(&server.session, &options.slot).await?;
    Ok(slot.and_then(|slot| slot.restart).unwrap_or(identity.position))
}

/// Keeps the history of a timeline that begins.
async fn note_timeline(
    session: &mut ReplicationSession,
    archive: &mut dyn LogArchive,
    (before, next): (u32, u32),
    at: Lsn,
) -> Result<(), Failure> {
    let history = session.history(next).await?;
    let part = ArchivedPart::History { timeline: next, before, at };
    archive.append(json_of(&part)?, history.text.into(), None).await.map(drop)
}

/// The server has log no more that the archive lacks: says so, and begins anew behind it.
async fn note_gap(
    options: &ArchiveOptions,
    archive: &mut dyn LogArchive,
    timeline: u32,
    start: Lsn,
) -> Result<(), Failure> {
    let Source { server, mut session, identity, lineage } = Source::open(options).await?;
    let segment = lineage.segment_bytes;
    // Some versions take a slot that was lost as if nothing had happened.
    session.drop_slot(&options.slot).await?;
    session.create_slot(&options.slot).await?;
    let restart = kept_from(&server, options, &identity).await?;
    // A file is there from its beginning on, or not at all.
    let end = restart.floor(segment).max(Lsn(start.0.div_ceil(segment) * segment));
    let timeline = timeline.max(identity.timeline);
    let part = ArchivedPart::Gap { timeline, start, end };
    tracing::warn!(%start, %end, timeline, "the server has no longer this part of its log");
    archive.append(json_of(&part)?, Bytes::new(), None).await.map(drop)
}

fn json_of(part: &ArchivedPart) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(part).map_err(|error| Failure::new(Reason::Internal, error.to_string()))
}

async fn segment_bytes(server: &Server) -> Result<u64, Failure> {
    let doing = "asking for the size of the log's files";
    let sql = "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'";
    let row = server.session.query_one(sql, &[]).await;
    let row = row.map_err(|error| crate::errors::query_failure(&error, doing))?;
    u64::try_from(row.get::<_, i64>(0)).map_err(|_| Failure::new(Reason::Internal, doing))
}

struct Follower<'a> {
    stream: WalStream,
    keeper: Keeper,
    archive: &'a mut dyn LogArchive,
    watcher: &'a dyn ArchiveWatcher,
    max_lag: Duration,
}

impl Follower<'_> {
    async fn run(&mut self, cancel: &CancellationToken) -> Result<Ended, Failure> {
        // When the oldest byte came that is not kept.
        let mut waits_since: Option<Instant> = None;
        let mut report = Instant::now() + REPORT_EVERY;
        loop {
            let due = waits_since.map_or(report, |since| report.min(since + self.max_lag));
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(Ended::Stopped),
                () = tokio::time::sleep_until(due) => {
                    if waits_since.is_some_and(|since| since + self.max_lag <= Instant::now()) {
                        self.keep().await?;
                        waits_since = None;
                    }
                    self.report().await?;
                    report = Instant::now() + REPORT_EVERY;
                }
                message = self.stream.next() => match message? {
                    WalMessage::Data { start, server_end, clock, bytes } => {
                        let came = Instant::now();
                        if self.take(start, server_end, clock, bytes).await? {
                            self.report().await?;
                        }
                        let is_behind = self.keeper.cutter.position() > self.keeper.durable;
                        waits_since = is_behind.then(|| waits_since.unwrap_or(came));
                    }
                    WalMessage::KeepAlive { server_end, clock, wants_reply } => {
                        self.keeper.server_end = server_end;
                        self.keeper.clock = clock;
                        if server_end <= self.keeper.cutter.position() {
                            self.keeper.cutter.nothing_until(clock);
                        }
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
        let full = self.keeper.cutter.push(bytes, clock.filter(|_| is_end))?;
        let is_any = !full.is_empty();
        for cut in full {
            self.append(cut).await?;
        }
        Ok(is_any)
    }

    /// Keeps what has come.
    async fn keep(&mut self) -> Result<(), Failure> {
        match self.keeper.cutter.cut() {
            Some(cut) => self.append(cut).await,
            None => Ok(()),
        }
    }

    async fn append(&mut self, cut: Cut) -> Result<(), Failure> {
        let (end, is_full) = (cut.part.end, cut.is_full);
        let about = json_of(&ArchivedPart::Wal(cut.part))?;
        let replaces = if is_full { self.keeper.pieces.take() } else { None };
        let number = self.archive.append(about, cut.bytes, replaces).await?;
        if !is_full {
            let first = self.keeper.pieces.map_or(number, |(first, _)| first);
            self.keeper.pieces = Some((first, number));
        }
        self.keeper.durable = end;
        Ok(())
    }

    async fn report(&mut self) -> Result<(), Failure> {
        let written = self.keeper.cutter.position();
        let received = Received { written, flushed: self.keeper.durable };
        self.stream.report(received, Timestamp::now()).await
    }

    fn tell(&self) {
        self.watcher.update(ArchiveState {
            timeline: self.keeper.timeline,
            kept: self.keeper.durable.to_string(),
            behind_bytes: self.keeper.server_end.0.saturating_sub(self.keeper.durable.0),
            clock: self.keeper.clock,
        });
    }
}
