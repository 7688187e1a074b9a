//! Sessions, attempts of a run, and what has become of them (`docs/format.md`,
//! "The life of a run").

use std::sync::Arc;
use std::time::Duration;

use dbbackup_storage::collect_listing;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::collector::Absent;
use crate::envelope::{Kind, open_object};
use crate::environment::random;
use crate::guards::{Guard, holds};
use crate::head::{HeadObject, Tombstone, TombstoneReason, encode_tombstone};
use crate::keyring::Keyring;
use crate::moves::MOVES_SERIES;
use crate::names::{RunName, SnapshotId, parse_number};
use crate::repository::{Inner, ReadOnly, Repository};
use crate::snapshot::Snapshot;
use crate::writer::Predecessors;
use crate::{Error, Result};

/// Time between two heartbeats: six of them fit the hour after which a session
/// without one may be fenced.
pub(crate) const BEAT_INTERVAL: Duration = Duration::from_secs(600);
/// No run has more attempts; a listing that says otherwise is hostile.
const MAX_ATTEMPTS: u32 = 10_000;

/// The series of the collector's own sessions: no caller's holds a NUL.
const COLLECTOR_SERIES: &str = "\0collector";
/// The series of readers' sessions.
const READER_SERIES: &str = "";

/// What has become of a run.
#[derive(Clone, Debug)]
pub enum RunState {
    /// It has committed this snapshot.
    Committed(Snapshot),
    /// It had committed this snapshot, which was let go since.
    Forgotten(SnapshotId),
    /// It has not, and no earlier attempt can any more.
    Free {
        /// The number of the next attempt.
        next_attempt: u32,
    },
    /// An earlier attempt may still commit; it was not to be fenced.
    Unresolved {
        /// The attempt.
        attempt: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SessionKind {
    Writer,
    Reader,
    Collector,
}

impl SessionKind {
    /// Whose session this is, by its name.
    pub(crate) fn of(keys: &Keyring, id: &SnapshotId) -> Self {
        match id {
            id if id.is_of(keys, READER_SERIES) => Self::Reader,
            id if id.is_of(keys, COLLECTOR_SERIES) => Self::Collector,
            _ => Self::Writer,
        }
    }
}

/// An attempt that has begun.
pub(crate) struct BegunAttempt {
    pub(crate) id: SnapshotId,
    /// Packs that it must not refer to.
    pub(crate) absent: Absent,
    /// The newest snapshots of the series.
    pub(crate) predecessors: Predecessors,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionJson {
    kind: SessionKind,
    series: String,
    run_id: String,
    attempt: u32,
    time: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct BeatJson {
    time: Timestamp,
    ended: bool,
}

impl Repository {
    /// Finds out what became of a run. With `fence`, attempts that have neither
    /// committed nor ended are given up: they cannot commit any more.
    ///
    /// # Errors
    /// What the store says; `RepositoryDamaged` if an attempt cannot be read.
    pub async fn resolve_run(
        &self,
        series: &str,
        run_id: &str,
        slot_time: Timestamp,
        fence: Option<TombstoneReason>,
    ) -> Result<RunState> {
        let inner = &self.inner;
        let run = RunName::new(&inner.keys, series, slot_time, run_id)?;
        // Listings may lag, so they only say how far to look at least.
        let listed = highest_attempt(inner, &run).await?;
        for attempt in 0..MAX_ATTEMPTS {
            let id = SnapshotId::of_attempt(&run, attempt);
            // In this order: a session goes only when its head or tombstone is
            // there, and a head only when it was let go.
            let began = inner.exists(&id.session_name()).await?;
            let mut found = inner.head_object(&id).await?;
            if found.is_none()
                && began
                && let Some(reason) = fence
            {
                found = inner.fence(&id, reason).await?;
            }
            if inner.was_let_go(&id).await? {
                return Ok(RunState::Forgotten(id));
            }
            match found {
                Some((HeadObject::Head(head), digest)) => {
                    return Ok(RunState::Committed(Snapshot::new(self, id, *head, digest)));
                }
                Some((HeadObject::Tombstone, _)) => {}
                None if began => return Ok(RunState::Unresolved { attempt }),
                None if listed.is_some_and(|listed| attempt <= listed) => {}
                None => return Ok(RunState::Free { next_attempt: attempt }),
            }
        }
        Err(Error::Misuse(format!("the run {run_id} has more than {MAX_ATTEMPTS} attempts")))
    }

    /// Begins an attempt of a run, after giving up every earlier one; or finds
    /// that one of them has committed.
    pub(crate) async fn begin_attempt(
        &self,
        series: &str,
        run_id: &str,
        slot_time: Timestamp,
    ) -> Result<std::result::Result<BegunAttempt, Snapshot>> {
        let inner = &self.inner;
        inner.may_write()?;
        if series.is_empty() || series.contains('\0') {
            return Err(Error::Misuse(format!("{series:?} is no name of a series")));
        }
        let early =
            if holds(Guard::SessionFirst) { None } else { Some(inner.absent_packs().await?) };
        let id = loop {
            let fence = Some(TombstoneReason::Retry);
            match self.resolve_run(series, run_id, slot_time, fence).await? {
                RunState::Committed(snapshot) => return Ok(Err(snapshot)),
                RunState::Forgotten(id) => return Err(Error::Forgotten(id.to_string())),
                // Cannot be with a fence, but for an attempt that began just now.
                RunState::Unresolved { .. } => {}
                RunState::Free { next_attempt } => {
                    let run = RunName::new(&inner.keys, series, slot_time, run_id)?;
                    let id = SnapshotId::of_attempt(&run, next_attempt);
                    if inner.create_session(&id, SessionKind::Writer, series, run_id).await? {
                        break id;
                    }
                }
            }
        };
        // Somebody who was frozen since it looked may find that the run was made,
        // let go and cleaned up meanwhile: its session's name was free again.
        if inner.was_let_go(&id).await? {
            return Err(Error::Forgotten(id.to_string()));
        }
        // W2: what is condemned is read after the session exists, and before the
        // predecessor is.
        let absent = match early {
            Some(early) => early,
            None => inner.absent_packs().await?,
        };
        let predecessors = Predecessors::find(self, series).await?;
        Ok(Ok(BegunAttempt { id, absent, predecessors }))
    }
}

async fn highest_attempt(inner: &Inner, run: &RunName) -> Result<Option<u32>> {
    let prefix = run.prefix();
    let mut highest = None;
    for folder in [crate::names::SNAPSHOTS, crate::names::SESSIONS] {
        let prefix = format!("{folder}{prefix}");
        for object in collect_listing(inner.store.list(&prefix)).await? {
            let attempt = object.name.strip_prefix(&prefix).and_then(parse_number);
            highest = highest.max(attempt.filter(|attempt| *attempt < MAX_ATTEMPTS));
        }
    }
    Ok(highest)
}

impl Inner {
    /// What stands in a snapshot's place, with the digest of the stored object.
    pub(crate) async fn head_object(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<(HeadObject, String)>> {
        let name = id.head_name();
        let Some(object) = self.find(&name).await? else { return Ok(None) };
        let content = open_object(&self.keys, Kind::Snapshot, &name, &object)?;
        let digest = crate::envelope::object_digest(&object);
        let found = HeadObject::parse(&name, &content)?;
        // Whether it is a repacking is told by the name to who lists, and by the series to
        // who reads.
        if let HeadObject::Head(head) = &found
            && !id.is_of(&self.keys, &head.about.series)
        {
            return Err(Error::damaged(name, "its series is not that of its name"));
        }
        Ok(Some((found, digest)))
    }

    /// Gives an attempt up. Returns what stands in its place then: the tombstone,
    /// or a head that was quicker; nothing if that one was let go already.
    pub(crate) async fn fence(
        &self,
        id: &SnapshotId,
        reason: TombstoneReason,
    ) -> Result<Option<(HeadObject, String)>> {
        self.may_write()?;
        let tombstone = Tombstone { session: id.to_string(), reason, time: self.environment.now() };
        let name = id.head_name();
        let put = self.put(Kind::Snapshot, &name, &encode_tombstone(&tombstone)?).await?;
        if put.created {
            let digest = crate::envelope::object_digest(&put.object);
            return Ok(Some((HeadObject::Tombstone, digest)));
        }
        self.head_object(id).await
    }

    /// W3, the commit: creates the head, and returns its digest.
    pub(crate) async fn commit_head(&self, id: &SnapshotId, content: &[u8]) -> Result<String> {
        let put = self.put(Kind::Snapshot, &id.head_name(), content).await?;
        if put.created {
            return Ok(crate::envelope::object_digest(&put.object));
        }
        Err(match self.head_object(id).await? {
            Some((HeadObject::Tombstone | HeadObject::Head(_), _)) => Error::Fenced(id.to_string()),
            // Only heads go again: an earlier try had committed it.
            None => Error::Forgotten(id.to_string()),
        })
    }

    /// Refuses to write where nothing may be written.
    pub(crate) fn may_write(&self) -> Result<()> {
        match self.read_only {
            None => Ok(()),
            Some(ReadOnly::AsAsked) => Err(Error::ReadOnly),
            Some(ReadOnly::NewerRelease) => {
                let detail =
                    "a newer release has written this repository; this one may only read it";
                Err(Error::VersionUnsupported(detail.into()))
            }
        }
    }

    /// Creates the session of `id`; false if somebody else began this attempt.
    pub(crate) async fn create_session(
        &self,
        id: &SnapshotId,
        kind: SessionKind,
        series: &str,
        run_id: &str,
    ) -> Result<bool> {
        let session = SessionJson {
            kind,
            series: series.to_owned(),
            run_id: run_id.to_owned(),
            attempt: id.attempt(),
            time: self.environment.now(),
        };
        self.put_json(Kind::Session, &id.session_name(), &session).await
    }

    async fn beat(&self, id: &SnapshotId, n: u32, ended: bool) -> Result<()> {
        let beat = BeatJson { time: self.environment.now(), ended };
        self.put_json(Kind::Beat, &id.beat_name(n), &beat).await?;
        Ok(())
    }
}

/// Beats while a session is open, and stops when dropped.
#[derive(Debug)]
pub(crate) struct Heart {
    _stop: DropGuard,
    beats: Arc<std::sync::atomic::AtomicU32>,
}

impl Heart {
    /// Begins to beat. A writer that finds its tombstone cancels `fenced`: what
    /// it still writes is in vain.
    pub(crate) fn start(
        inner: Arc<Inner>,
        id: SnapshotId,
        fenced: Option<CancellationToken>,
    ) -> Self {
        let stop = CancellationToken::new();
        let beats = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let (stopped, count) = (stop.clone(), Arc::clone(&beats));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => return,
                    () = tokio::time::sleep(BEAT_INTERVAL) => {}
                }
                let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if let Err(error) = inner.beat(&id, n, false).await {
                    tracing::warn!(%error, session = %id, "a heartbeat could not be written");
                }
                if let Some(fenced) = &fenced
                    && inner.store.head(&id.head_name()).await.is_ok()
                {
                    fenced.cancel();
                    return;
                }
            }
        });
        Self { _stop: stop.drop_guard(), beats }
    }
}

/// A reader's session: while it is open, the collector deletes nothing that was
/// there when it began. Where nothing may be written, it is none, and the collector's
/// grace period alone stands between a reader and what is let go while it reads.
#[derive(Debug)]
pub struct ReadSession {
    inner: Arc<Inner>,
    written: Option<(SnapshotId, Heart)>,
}

impl Repository {
    /// Begins to read. Hold it as long as snapshots are read, and end it with
    /// [`ReadSession::end`].
    ///
    /// # Errors
    /// What the store says.
    pub async fn begin_reading(&self) -> Result<ReadSession> {
        let inner = Arc::clone(&self.inner);
        if inner.read_only.is_some() {
            return Ok(ReadSession { inner, written: None });
        }
        let (id, _) = inner.begin_session(SessionKind::Reader).await?;
        let heart = Heart::start(Arc::clone(&inner), id.clone(), None);
        Ok(ReadSession { inner, written: Some((id, heart)) })
    }
}

impl Inner {
    /// Begins a session of a series of our own: a reader's, a collector's, or the one of
    /// a writer that repacks. Returns its id and that of its run.
    pub(crate) async fn begin_session(&self, kind: SessionKind) -> Result<(SnapshotId, String)> {
        self.may_write()?;
        let series = match kind {
            SessionKind::Collector => COLLECTOR_SERIES,
            SessionKind::Reader => READER_SERIES,
            SessionKind::Writer => MOVES_SERIES,
        };
        let run: [u8; 16] = random(&*self.environment)?;
        let run_id = data_encoding::HEXLOWER.encode(&run);
        let name = RunName::new(&self.keys, series, self.environment.now(), &run_id)?;
        let id = SnapshotId::of_attempt(&name, 0);
        if self.create_session(&id, kind, series, &run_id).await? {
            Ok((id, run_id))
        } else {
            // Random names do not meet: it was created, taken for dead and removed
            // before the acknowledgement came.
            Err(Error::Fenced(id.to_string()))
        }
    }

    /// What a session's heartbeat says.
    pub(crate) async fn has_ended(&self, beat: &str) -> Result<bool> {
        Ok(self.read_json::<BeatJson>(Kind::Beat, beat).await?.is_some_and(|beat| beat.ended))
    }
}

impl ReadSession {
    /// Says that reading is over, so that the collector need not wait.
    ///
    /// # Errors
    /// What the store says; nothing is lost by it.
    pub async fn end(self) -> Result<()> {
        let Some((id, heart)) = self.written else { return Ok(()) };
        let n = heart.beats.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.inner.beat(&id, n, true).await
    }
}
