//! The collector's notes, and what writers read of them (`docs/format.md`,
//! "Deleting").

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use dbbackup_storage::collect_listing;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::mark::Marked;
use crate::block_set::BlockSet;
use crate::envelope::Kind;
use crate::guards::{Guard, holds};
use crate::moves::{Home, Moves, Standing};
use crate::names::{BLOCKERS, CONDEMNED, MARKS, PartName, VERDICT, parse_number};
use crate::pack::PackEntry;
use crate::repository::Inner;
use crate::tables::{Usage, UsedPack, pack_usage};
use crate::{Error, Result};

/// Most packs and meta objects that one note condemns: 16 MiB of names. What is
/// left is condemned next time.
pub(super) const MAX_CONDEMNED: usize = 250_000;

const NO_NOTE: &str = "no release of this program names a note like that";

/// Packs and meta objects, by the last parts of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    #[serde(default)]
    pub(crate) packs: BTreeSet<String>,
    #[serde(default)]
    pub(crate) metas: BTreeSet<String>,
}

impl Parts {
    pub(super) fn len(&self) -> usize {
        self.packs.len() + self.metas.len()
    }

    /// What is in both.
    pub(super) fn both(&self, other: &Self) -> Self {
        let both = |one: &BTreeSet<_>, other| one.intersection(other).cloned().collect();
        Self { packs: both(&self.packs, &other.packs), metas: both(&self.metas, &other.metas) }
    }
}

/// What is about to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Condemned {
    #[serde(flatten)]
    pub(super) parts: Parts,
    pub(super) time: Timestamp,
}

/// The sessions that were there after the packs were condemned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Blockers {
    pub(super) sessions: BTreeSet<String>,
    pub(super) time: Timestamp,
}

/// What became of the condemned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) delete: Parts,
    pub(super) keep: Parts,
    pub(super) time: Timestamp,
}

impl Verdict {
    /// Keeps a pack that was to be deleted.
    pub(super) fn spare(&mut self, pack: &str) {
        self.keep.packs.extend(self.delete.packs.take(pack));
    }

    /// What becomes of the condemned by what is in use.
    pub(super) fn of(condemned: &Parts, marked: &Marked, time: Timestamp) -> Self {
        let (mut delete, mut keep) = (Parts::default(), Parts::default());
        let free = |used: bool| !(used && holds(Guard::Verdict));
        for pack in &condemned.packs {
            let used = PartName::parse(pack).is_none_or(|name| marked.uses_pack(&name));
            let side = if free(used) { &mut delete } else { &mut keep };
            side.packs.insert(pack.clone());
        }
        for meta in &condemned.metas {
            let used = PartName::parse(meta).is_none_or(|name| marked.uses_meta(&name));
            let side = if free(used) { &mut delete } else { &mut keep };
            side.metas.insert(meta.clone());
        }
        Self { delete, keep, time }
    }
}

/// A note of one number.
pub(super) trait Note: Serialize + DeserializeOwned {
    const KIND: Kind;
    const FOLDER: &str;
}

impl Note for Condemned {
    const KIND: Kind = Kind::Condemned;
    const FOLDER: &str = CONDEMNED;
}

impl Note for Blockers {
    const KIND: Kind = Kind::Blockers;
    const FOLDER: &str = BLOCKERS;
}

impl Note for Verdict {
    const KIND: Kind = Kind::Verdict;
    const FOLDER: &str = VERDICT;
}

pub(super) fn note_name<N: Note>(n: u32) -> String {
    format!("{}{n}", N::FOLDER)
}

impl Inner {
    pub(super) async fn read_note<N: Note>(&self, n: u32) -> Result<Option<N>> {
        self.read_json(N::KIND, &note_name::<N>(n)).await
    }

    /// Creates a note, or reads the one that somebody else has created: that one
    /// counts then. `None` if that one was needed no more, and is gone again.
    pub(super) async fn settle_note<N: Note>(&self, n: u32, note: N) -> Result<Option<N>> {
        if self.put_json(N::KIND, &note_name::<N>(n), &note).await? {
            return Ok(Some(note));
        }
        self.read_note(n).await
    }

    /// The numbers of the notes in a folder, ascending: for the collector, which goes
    /// on only where it understands everything.
    pub(super) async fn note_numbers(&self, folder: &str) -> Result<BTreeSet<u32>> {
        let (numbers, foreign) = self.listed_notes(folder).await?;
        match foreign.into_iter().next() {
            Some(object) => Err(Error::damaged(object, NO_NOTE)),
            None => Ok(numbers),
        }
    }

    /// The numbers of the notes in a folder, and names that are no note's.
    async fn listed_notes(&self, folder: &str) -> Result<(BTreeSet<u32>, Vec<String>)> {
        let (mut numbers, mut foreign) = (BTreeSet::new(), Vec::new());
        for object in collect_listing(self.store.list(folder)).await? {
            match object.name.strip_prefix(folder).and_then(parse_number) {
                Some(number) => _ = numbers.insert(number),
                None => foreign.push(object.name),
            }
        }
        Ok((numbers, foreign))
    }

    /// The next number that no note has had: notes of old numbers may still arrive.
    pub(super) async fn next_note(&self) -> Result<u32> {
        let mut next = 0;
        for folder in [CONDEMNED, BLOCKERS, VERDICT, MARKS] {
            let highest = self.note_numbers(folder).await?.last().copied();
            let Some(highest) = highest else { continue };
            let follows = highest.checked_add(1);
            next = next.max(follows.ok_or_else(|| {
                Error::damaged(format!("{folder}{highest}"), "no note can follow this number")
            })?);
        }
        Ok(next)
    }
}

/// The packs that do not exist for a writer: condemned and not pardoned, or moved.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    packs: HashSet<String>,
    moves: Arc<Moves>,
}

impl Absent {
    /// Whether no new recipe may refer to this pack.
    pub(crate) fn contains(&self, pack: &PartName) -> bool {
        let condemned = !self.packs.is_empty() && self.packs.contains(&pack.last_part());
        condemned && holds(Guard::Inheritance)
            || self.moves.contains(pack) && holds(Guard::MovedIsAbsent)
    }

    /// The packs that blocks of this one were moved to, and may be taken from.
    pub(crate) fn homes(&self, pack: &PackEntry) -> impl Iterator<Item = &Home> {
        let may_be =
            |home: &&Home| home.standing == Standing::Counts && !self.contains(&home.entry.name);
        self.moves.of(pack).filter(may_be)
    }

    /// The packs that hold what a snapshot uses of this one, and may be taken from:
    /// itself, or those that it was moved to; none where it is condemned.
    pub(crate) fn now(&self, pack: &UsedPack) -> Vec<UsedPack> {
        if !self.contains(&pack.entry.name) {
            return Vec::from_iter(pack.is_used().then(|| pack.clone()));
        }
        let used = BlockSet::used(pack);
        let at_home = |home: &Home| {
            let places: BTreeSet<u32> = used.iter().filter_map(|n| home.place(n)).collect();
            let usage = (0..home.entry.blocks)
                .map(|n| if places.contains(&n) { Usage::Whole } else { Usage::Unused });
            UsedPack { usage: pack_usage(usage), entry: Arc::clone(&home.entry) }
        };
        self.homes(&pack.entry).map(at_home).filter(UsedPack::is_used).collect()
    }
}

impl Inner {
    /// The packs that are absent for a writer whose session exists already.
    pub(crate) async fn absent_packs(self: &Arc<Self>) -> Result<Absent> {
        let mut absent = Absent::default();
        let (numbers, foreign) = self.listed_notes(CONDEMNED).await?;
        // Nothing is deleted by it: the collector reads notes by their numbers, and
        // stops where it finds another name. So it hinders no backup.
        for object in foreign {
            tracing::warn!(object, "{NO_NOTE}: skipped");
        }
        for n in numbers {
            // A condemn that went since the listing was carried out.
            let Some(condemned) = self.read_note::<Condemned>(n).await? else { continue };
            let keep = self.read_note::<Verdict>(n).await?.map(|verdict| verdict.keep.packs);
            let keep = keep.unwrap_or_default();
            absent.packs.extend(condemned.parts.packs.into_iter().filter(|p| !keep.contains(p)));
        }
        absent.moves = self.read_moves().await?;
        Ok(absent)
    }

    /// Plants a condemn, as the collector writes it.
    #[cfg(test)]
    pub(crate) async fn condemn(&self, n: u32, packs: Vec<String>) -> Result<()> {
        let parts = Parts { packs: packs.into_iter().collect(), ..Parts::default() };
        self.settle_note(n, Condemned { parts, time: self.environment.now() }).await?;
        Ok(())
    }

    /// Plants a verdict, as the collector writes it.
    #[cfg(test)]
    pub(crate) async fn pardon(&self, n: u32, keep: Vec<String>) -> Result<()> {
        let keep = Parts { packs: keep.into_iter().collect(), ..Parts::default() };
        let time = self.environment.now();
        self.settle_note(n, Verdict { delete: Parts::default(), keep, time }).await?;
        Ok(())
    }
}
