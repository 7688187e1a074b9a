//! What was decided about a snapshot: it is pinned, it is not any more, it is let
//! go (`docs/format.md`, "Decisions").
//!
//! The decisions about one snapshot are a sequence: each is created in the next
//! free place, so of two that are made at the same time the later one sees the
//! earlier. That it was let go is the last. Nothing is deleted here: the collector
//! removes the head when nobody reads the snapshot any more, and then what only it
//! has used.

use std::collections::BTreeSet;
use std::time::SystemTime;

use dbbackup_storage::collect_listing;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::envelope::Kind;
use crate::guards::{Guard, holds};
use crate::head::HeadObject;
use crate::names::{DECISIONS, SnapshotId, parse_number};
use crate::repository::{Inner, Repository};
use crate::{Error, Result};

/// Longest explanation that is stored with a decision, in bytes.
const MAX_DETAIL_BYTES: usize = 1024;
/// Nobody decides more often about one snapshot; what says otherwise is hostile.
const MAX_DECISIONS: u32 = 10_000;

/// Why a snapshot is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForgetReason {
    /// No rule of its schedule keeps it.
    Retention,
    /// Somebody asked for it.
    Erase,
    /// It was a repacking, and of what it moved nothing is left.
    Superseded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Decision {
    Pinned,
    Unpinned,
    Forgotten,
}

#[derive(Debug, Serialize, Deserialize)]
struct DecisionJson {
    session: String,
    decision: Decision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<ForgetReason>,
    detail: String,
    time: Timestamp,
}

impl Repository {
    /// Lets a snapshot go: it is not listed any more, and nobody builds on it. To
    /// let it go twice does no harm. `detail` says why, in words.
    ///
    /// # Errors
    /// `SnapshotNotFound` if there never was one, `SnapshotPinned`, or what the
    /// store says.
    pub async fn forget(&self, id: &SnapshotId, reason: ForgetReason, detail: &str) -> Result<()> {
        self.inner.decide(id, Decision::Forgotten, Some(reason), detail).await
    }

    /// Pins a snapshot: nothing lets it go until it is unpinned.
    ///
    /// # Errors
    /// `SnapshotNotFound`, `SnapshotForgotten`, or what the store says.
    pub async fn pin(&self, id: &SnapshotId, detail: &str) -> Result<()> {
        self.inner.decide(id, Decision::Pinned, None, detail).await
    }

    /// Takes a pin back.
    ///
    /// # Errors
    /// As [`Repository::pin`].
    pub async fn unpin(&self, id: &SnapshotId, detail: &str) -> Result<()> {
        self.inner.decide(id, Decision::Unpinned, None, detail).await
    }

    /// The snapshots that are pinned, and those of which it cannot be read: one
    /// listing, and a few reads for each that was ever pinned or let go.
    ///
    /// # Errors
    /// What the store says.
    pub async fn pinned(&self) -> Result<BTreeSet<SnapshotId>> {
        let mut pinned = BTreeSet::new();
        for id in self.inner.decided().await? {
            match self.inner.last_decision(&id).await {
                Ok((_, Some(Decision::Pinned))) => _ = pinned.insert(id),
                Ok(_) => {}
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, snapshot = %id, "counts as pinned");
                    pinned.insert(id);
                }
            }
        }
        Ok(pinned)
    }
}

impl Inner {
    /// Whether a snapshot was let go: a head of it that is still there, or there
    /// again since a write was late, does not count.
    pub(crate) async fn is_forgotten(&self, id: &SnapshotId) -> Result<bool> {
        Ok(self.last_decision(id).await?.1 == Some(Decision::Forgotten))
    }

    /// Whether a head that was found does not count, since it was let go. Where that
    /// cannot be read it does: on the day that it is needed, somebody may try.
    pub(crate) async fn is_hidden(&self, id: &SnapshotId) -> Result<bool> {
        match self.is_forgotten(id).await {
            Ok(forgotten) => Ok(forgotten && holds(Guard::ForgottenHead)),
            Err(error @ (Error::Damaged { .. } | Error::VersionUnsupported(_))) => {
                tracing::warn!(%error, snapshot = %id, "counts as not let go");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the run of this attempt has made a snapshot that was let go since.
    pub(crate) async fn was_let_go(&self, id: &SnapshotId) -> Result<bool> {
        Ok(holds(Guard::ForgottenRun) && self.is_forgotten(id).await?)
    }

    /// The snapshots that anything was decided about: one listing, which may not
    /// show the newest. What has no decision's name decides nothing, and anybody who
    /// may write can put it there: it hinders no list and no restore.
    pub(crate) async fn decided(&self) -> Result<BTreeSet<SnapshotId>> {
        let (decided, foreign) = self.listed_decisions().await?;
        for object in foreign {
            tracing::warn!(object, "no decision has a name like that: skipped");
        }
        Ok(decided)
    }

    /// The same for the collector, which goes on only where it understands everything.
    pub(crate) async fn decided_without_doubt(&self) -> Result<BTreeSet<SnapshotId>> {
        let (decided, foreign) = self.listed_decisions().await?;
        match foreign.into_iter().next() {
            Some(object) => Err(Error::damaged(object, "it is no decision's name")),
            None => Ok(decided),
        }
    }

    /// Snapshots with decisions, and names that are no decision's.
    async fn listed_decisions(&self) -> Result<(BTreeSet<SnapshotId>, Vec<String>)> {
        let (mut decided, mut foreign) = (BTreeSet::new(), Vec::new());
        for object in collect_listing(self.store.list(DECISIONS)).await? {
            let last = object.name.strip_prefix(DECISIONS).and_then(|last| last.rsplit_once('-'));
            let id = last
                .filter(|(_, n)| parse_number(n).is_some())
                .and_then(|(session, _)| SnapshotId::parse(session).ok());
            match id {
                Some(id) => _ = decided.insert(id),
                None => foreign.push(object.name),
            }
        }
        Ok((decided, foreign))
    }

    /// When a snapshot was let go, by the store's clock.
    pub(crate) async fn forgotten_since(&self, id: &SnapshotId) -> Result<Option<SystemTime>> {
        let (next, last) = self.last_decision(id).await?;
        if last != Some(Decision::Forgotten) {
            return Ok(None);
        }
        let name = id.decision_name(next - 1);
        Ok(Some(self.store.head(&name).await.map_err(Error::needed)?.modified))
    }

    /// How many decisions there are, and the last one. They are read one by one,
    /// since a listing may lag.
    async fn last_decision(&self, id: &SnapshotId) -> Result<(u32, Option<Decision>)> {
        let mut last = None;
        for n in 0..MAX_DECISIONS {
            let name = id.decision_name(n);
            match self.read_json::<DecisionJson>(Kind::Decision, &name).await? {
                // Nothing is decided behind it.
                Some(DecisionJson { decision: Decision::Forgotten, .. }) => {
                    return Ok((n + 1, Some(Decision::Forgotten)));
                }
                Some(made) => last = Some(made.decision),
                None => return Ok((n, last)),
            }
        }
        Err(Error::damaged(id.decision_name(MAX_DECISIONS), "there are more than anybody makes"))
    }

    async fn decide(
        &self,
        id: &SnapshotId,
        decision: Decision,
        reason: Option<ForgetReason>,
        detail: &str,
    ) -> Result<()> {
        self.may_write()?;
        // A repacking is nobody's snapshot: the collector alone knows when nothing needs it.
        if self.is_repacking(id) && reason != Some(ForgetReason::Superseded) {
            return Err(Error::SnapshotNotFound(id.to_string()));
        }
        let mut again = false;
        loop {
            let (next, last) = self.last_decision(id).await?;
            match (last, decision) {
                (Some(last), decision) if last == decision => return Ok(()),
                (None, Decision::Unpinned) => return Ok(()),
                (Some(Decision::Forgotten), _) => return Err(Error::Forgotten(id.to_string())),
                (Some(Decision::Pinned), Decision::Forgotten)
                    if holds(Guard::DecidedOnce) || !again =>
                {
                    return Err(Error::Pinned(id.to_string()));
                }
                _ => {}
            }
            if !matches!(self.head_object(id).await?, Some((HeadObject::Head(_), _))) {
                return Err(Error::SnapshotNotFound(id.to_string()));
            }
            let made = DecisionJson {
                session: id.to_string(),
                decision,
                reason,
                detail: cut(detail),
                time: self.environment.now(),
            };
            if self.put_json(Kind::Decision, &id.decision_name(next), &made).await? {
                return Ok(());
            }
            again = true;
        }
    }
}

fn cut(detail: &str) -> String {
    let mut end = detail.len().min(MAX_DETAIL_BYTES);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail[..end].to_owned()
}
