//! Sessions as the collector sees them: who may still write or read, who is
//! silent, and whose traces may go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use dbbackup_contract::SHORTEST_GRACE;
use dbbackup_storage::{ErrorKind, ObjectInfo, collect_listing};
use jiff::Timestamp;

use super::clock::{StoreClock, age_at};
use crate::guards::{Guard, holds};
use crate::head::{HeadObject, TombstoneReason};
use crate::names::{BEATS, SESSIONS, SnapshotId, parse_number};
use crate::repository::Inner;
use crate::session::SessionKind;
use crate::{Error, Result};

/// A session without a heartbeat for so long is dead: six of them are missing.
pub(super) const SILENCE: Duration = Duration::from_secs(3600);
/// No session lives longer; a writer that does is fenced though its heart beats.
pub(super) const LONGEST_SESSION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Traces of a session stay for so long after its end: far longer than any
/// listing lags.
pub(super) const TRACES_STAY: Duration = Duration::from_secs(24 * 3600);

/// A writer that may have found what is condemned before it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its session.
    pub session: SnapshotId,
    /// How long ago it began.
    pub age: Duration,
}

/// All sessions that are listed, with what is listed of their hearts.
#[derive(Debug)]
pub(super) struct Sessions {
    /// When they were listed: who is frozen behind that must not take the others
    /// for silent.
    at: Timestamp,
    sessions: BTreeMap<SnapshotId, ObjectInfo>,
    beats: BTreeMap<SnapshotId, BTreeMap<u32, ObjectInfo>>,
}

impl Sessions {
    pub(super) async fn list(inner: &Inner, clock: StoreClock) -> Result<Self> {
        let mut all = Self { at: clock.now(), sessions: BTreeMap::new(), beats: BTreeMap::new() };
        // Sessions first: of those that are listed, no beat is older.
        for object in collect_listing(inner.store.list(SESSIONS)).await? {
            let last = object.name.strip_prefix(SESSIONS).unwrap_or_default();
            all.sessions.insert(parse(&object.name, last)?, object);
        }
        for object in collect_listing(inner.store.list(BEATS)).await? {
            let last = object.name.strip_prefix(BEATS).unwrap_or_default();
            let (session, n) = last.rsplit_once('-').unwrap_or_default();
            let n = parse_number(n).ok_or_else(|| no_session(&object.name))?;
            all.beats.entry(parse(&object.name, session)?).or_default().insert(n, object);
        }
        Ok(all)
    }

    /// The writers' sessions: they alone may come to use what is condemned.
    pub(super) fn writers(&self, inner: &Inner) -> BTreeSet<SnapshotId> {
        self.of(inner, SessionKind::Writer).map(|(id, _)| id.clone()).collect()
    }

    /// The writers that began before a time of the store's clock.
    pub(super) fn writers_before(
        &self,
        inner: &Inner,
        time: SystemTime,
    ) -> impl Iterator<Item = SnapshotId> {
        let began = self.of(inner, SessionKind::Writer).filter(move |(_, it)| it.modified < time);
        began.map(|(id, _)| id.clone())
    }

    fn of(
        &self,
        inner: &Inner,
        kind: SessionKind,
    ) -> impl Iterator<Item = (&SnapshotId, &ObjectInfo)> {
        self.sessions.iter().filter(move |(id, _)| SessionKind::of(&inner.keys, id) == kind)
    }

    /// When the oldest reader that is still at it has begun.
    pub(super) async fn oldest_reader(&self, inner: &Inner) -> Result<Option<SystemTime>> {
        let mut oldest: Option<SystemTime> = None;
        for (id, session) in self.of(inner, SessionKind::Reader) {
            let beat = self.last_beat(id);
            let heard = beat.map_or(session.modified, |beat| beat.modified);
            if self.age(heard) > SILENCE || self.age(session.modified) > LONGEST_SESSION {
                continue;
            }
            let ended = match beat {
                Some(beat) => inner.has_ended(&beat.name).await?,
                None => false,
            };
            if !ended {
                oldest = Some(oldest.map_or(session.modified, |time| time.min(session.modified)));
            }
        }
        Ok(oldest)
    }

    /// Whether a snapshot that was let go at `since` may be read by nobody any
    /// more: who reads it has begun before, and is listed by now.
    pub(super) fn is_unread(&self, since: SystemTime, oldest_reader: Option<SystemTime>) -> bool {
        self.age(since) > SHORTEST_GRACE
            && (oldest_reader.is_none_or(|reader| reader > since) || !holds(Guard::Readers))
    }

    fn age(&self, time: SystemTime) -> Duration {
        age_at(self.at, time)
    }

    fn last_beat(&self, id: &SnapshotId) -> Option<&ObjectInfo> {
        self.beats.get(id)?.values().next_back()
    }

    /// Which of these writers block, after the silent ones were fenced.
    pub(super) async fn unresolved(
        &self,
        inner: &Inner,
        writers: &BTreeSet<SnapshotId>,
    ) -> Result<Vec<Blocker>> {
        let mut blockers = Vec::new();
        for id in writers {
            if let Some(blocker) = self.resolve(inner, id, SILENCE).await? {
                blockers.push(blocker);
            }
        }
        Ok(blockers)
    }

    /// Fences writers that were silent for so long that nobody waits for them, so
    /// that what they left can be collected.
    pub(super) async fn fence_abandoned(&self, inner: &Inner) -> Result<()> {
        for (id, session) in self.of(inner, SessionKind::Writer) {
            if self.age(session.modified) > TRACES_STAY {
                self.resolve(inner, id, TRACES_STAY).await?;
            }
        }
        Ok(())
    }

    /// Whether a writer is over. A silent one is made to be.
    async fn resolve(
        &self,
        inner: &Inner,
        id: &SnapshotId,
        silence: Duration,
    ) -> Result<Option<Blocker>> {
        // Its head may be there, or gone since it was let go.
        if inner.head_object(id).await?.is_some() || inner.is_forgotten(id).await? {
            return Ok(None);
        }
        // A session that was listed and is gone was resolved by another collector.
        let began = match inner.store.head(&id.session_name()).await {
            Ok(session) => session.modified,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let age = self.age(began);
        let heard = self.last_beat(id).map_or(age, |beat| self.age(beat.modified));
        let reason = match (heard > silence, age > LONGEST_SESSION) {
            (false, false) => return Ok(Some(Blocker { session: id.clone(), age })),
            (true, _) => TombstoneReason::Silent,
            (_, true) => TombstoneReason::TooOld,
        };
        if holds(Guard::Fence) {
            let found = inner.fence(id, reason).await?;
            if matches!(found, Some((HeadObject::Tombstone, _))) {
                tracing::warn!(session = %id, ?reason, "a session was given up");
            }
        }
        Ok(None)
    }

    /// Removes the traces of sessions that ended long ago. `over` says which
    /// writers are: their head or tombstone is in every listing, or was let go.
    pub(super) async fn remove_traces(
        &self,
        inner: &Inner,
        over: impl Fn(&SnapshotId) -> bool,
    ) -> Result<u64> {
        let mut removed = 0;
        for (id, session) in &self.sessions {
            let heard = self.last_beat(id).map_or(session.modified, |beat| beat.modified);
            let silent = self.age(session.modified).min(self.age(heard)) > TRACES_STAY;
            let kind = SessionKind::of(&inner.keys, id);
            if !silent || (kind == SessionKind::Writer && !over(id)) {
                continue;
            }
            for beat in self.beats.get(id).into_iter().flat_map(BTreeMap::values) {
                inner.store.delete(&beat.name).await?;
            }
            inner.store.delete(&session.name).await?;
            removed += 1;
        }
        // A heart that beat once more behind its session's end.
        for (id, beats) in &self.beats {
            if self.sessions.contains_key(id) || inner.exists(&id.session_name()).await? {
                continue;
            }
            for beat in beats.values().filter(|beat| self.age(beat.modified) > TRACES_STAY) {
                inner.store.delete(&beat.name).await?;
            }
        }
        Ok(removed)
    }
}

fn parse(object: &str, session: &str) -> Result<SnapshotId> {
    SnapshotId::parse(session).map_err(|_| no_session(object))
}

fn no_session(object: &str) -> Error {
    Error::damaged(object, "it is no session's name")
}
