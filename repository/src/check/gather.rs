//! Every head is read, one after the other: which packs and meta objects are needed.

use std::collections::BTreeSet;

use dbbackup_storage::collect_listing;

use super::{Check, NeededPack, unless_unavailable};
use crate::head::{HeadObject, PredecessorRef};
use crate::names::{PartName, SNAPSHOTS, SnapshotId};
use crate::pack::PackEntry;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

impl Check<'_> {
    /// Reads all heads, and notes that nothing else leads to. What was written off is not needed any more.
    pub(super) async fn gather(&mut self) -> Result<()> {
        let (written_off, unreadable) = self.inner.all_written_off("").await?;
        for error in unreadable.into_iter().chain(self.inner.unreadable_ledger().await?) {
            self.report.problem(error);
        }
        let decided = self.inner.decided().await?;
        let mut predecessors = Vec::new();
        for object in collect_listing(self.inner.store.list(SNAPSHOTS)).await? {
            // Names of another form are seen when everything is listed.
            let name = object.name.strip_prefix(SNAPSHOTS).unwrap_or_default();
            let Ok(id) = SnapshotId::parse(name) else { continue };
            if written_off.contains_key(&id) {
                self.report.note(object.name, "a snapshot that was written off");
                continue;
            }
            // A repacking that was let go may still hold what is nowhere else.
            if decided.contains(&id) && !self.inner.is_repacking(&id) {
                match self.inner.is_forgotten(&id).await {
                    // Its head waits for the collector; what it needs may be gone.
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => {
                        let problem = self.report.problem(unless_unavailable(error)?);
                        self.report.touches_all(problem, &id);
                    }
                }
            }
            let is_new = self.options.new_since.is_some_and(|since| since <= object.modified);
            match self.inner.head_object(&id).await {
                Ok(Some((HeadObject::Head(head), digest))) if head.is_repacking() => {
                    let snapshot = Snapshot::new(self.repository, id, *head, digest);
                    self.gather_needs(&snapshot, is_new).await?;
                }
                Ok(Some((HeadObject::Head(head), digest))) => {
                    predecessors.extend(head.about.predecessor.clone().map(|of| (id.clone(), of)));
                    self.snapshots.insert(id.clone(), digest.clone());
                    let snapshot = Snapshot::new(self.repository, id, *head, digest);
                    self.gather_needs(&snapshot, is_new).await?;
                }
                // A head that went since the listing is noticed by its successor.
                Ok(Some((HeadObject::Tombstone, _)) | None) => {}
                Err(error) => {
                    let problem = self.report.problem(unless_unavailable(error)?);
                    self.report.touches_all(problem, &id);
                }
            }
        }
        self.report.snapshots = self.snapshots.len() as u64;
        let mut looked_at = BTreeSet::new();
        for (id, predecessor) in predecessors {
            self.look_at_predecessor(&id, &predecessor).await?;
            looked_at.extend(SnapshotId::parse(&predecessor.id).ok());
        }
        // Notes that cannot be read are reported when they are listed.
        let remembered = match self.repository.remembered_heads().await {
            Ok(remembered) => remembered,
            Err(error) => unless_unavailable(error).map(|_| Vec::new())?,
        };
        for id in remembered {
            if !self.snapshots.contains_key(&id) && !looked_at.contains(&id) {
                self.look_for_head(&id).await?;
            }
        }
        Ok(())
    }

    /// The packs and meta objects of a snapshot. Whose tables cannot be read is
    /// reported when the recipes are walked.
    async fn gather_needs(&mut self, snapshot: &Snapshot, is_new: bool) -> Result<()> {
        for meta in snapshot.metas() {
            self.metas.insert(meta.name.clone());
        }
        match snapshot.packs().await {
            Ok(packs) => {
                for pack in packs.iter().filter(|pack| pack.is_used()) {
                    self.need(&pack.entry, is_new);
                }
                Ok(())
            }
            Err(error) => unless_unavailable(error).map(drop),
        }
    }

    fn need(&mut self, entry: &PackEntry, is_new: bool) {
        let known = self.by_name.entry(entry.name.clone()).or_default();
        if let Some(n) = known.iter().find(|n| self.packs[**n as usize].entry == *entry) {
            self.packs[*n as usize].is_new &= is_new;
            return;
        }
        known.push(self.packs.len() as u32);
        self.packs.push(NeededPack {
            entry: entry.clone(),
            is_new,
            listed: None,
            damage: None,
            blocks: None,
            moved: None,
        });
    }

    /// The index of a pack that is needed.
    pub(super) fn index_of(&self, entry: &PackEntry) -> Option<usize> {
        let named: &PartName = &entry.name;
        let mut indices = self.by_name.get(named)?.iter().map(|n| *n as usize);
        indices.find(|n| self.packs[*n].entry == *entry)
    }

    /// A head that another one was built on, and that is gone or another one, was
    /// taken away or replaced: nobody but the collector removes heads, and it
    /// leaves a note of each.
    async fn look_at_predecessor(&mut self, id: &SnapshotId, of: &PredecessorRef) -> Result<()> {
        let Ok(predecessor) = SnapshotId::parse(&of.id) else {
            let detail = "its predecessor has no snapshot's id";
            self.report.problem(Error::damaged(id.head_name(), detail));
            return Ok(());
        };
        match self.snapshots.get(&predecessor) {
            Some(digest) if *digest == of.digest => return Ok(()),
            Some(_) => {
                let detail = format!("it is not the head that {id} was built on");
                let error = Error::damaged(predecessor.head_name(), detail);
                let problem = self.report.problem(error);
                self.report.touches_all(problem, &predecessor);
                return Ok(());
            }
            None => {}
        }
        self.look_for_head(&predecessor).await
    }

    /// A head that was there once, and is gone without a note.
    async fn look_for_head(&mut self, id: &SnapshotId) -> Result<()> {
        // It may be damaged, which was reported, or written off.
        let stands = match self.inner.head_object(id).await {
            Ok(Some((HeadObject::Head(_), _))) => true,
            Ok(Some((HeadObject::Tombstone, _)) | None) => false,
            Err(error) => unless_unavailable(error).map(|_| true)?,
        };
        if !stands && !self.was_forgotten(id).await? {
            let problem = self.report.problem(Error::Missing(id.head_name()));
            self.report.touches_all(problem, id);
        }
        Ok(())
    }

    /// Whether retention has let a snapshot go, or somebody has written it off.
    async fn was_forgotten(&mut self, id: &SnapshotId) -> Result<bool> {
        if self.inner.is_written_off(id).await? {
            return Ok(true);
        }
        match self.inner.is_forgotten(id).await {
            Ok(forgotten) => Ok(forgotten),
            Err(error) => {
                self.report.problem(unless_unavailable(error)?);
                Ok(true)
            }
        }
    }
}
