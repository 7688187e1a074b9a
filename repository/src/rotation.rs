//! Adding and removing key slots, and bringing them in line with a list of keys.
//!
//! A slot is removed in three writes: `leaving/<slot>` is created, the slot is
//! deleted, `leaving/<slot>` is deleted. Between the first and the second it is made
//! sure that a key which stays opens another slot, its *witness*, that exists and is
//! not leaving itself. So of several that remove slots at the same time, each
//! trusting in a slot that another one removes, none is left without any: along
//! slot → witness → its witness the times of the first write ascend, and the last
//! one's witness is not removed. For that a `leaving/` is never taken back, also when
//! the removal is refused after it; a key whose only slot is leaving gets a new one.
//! `docs/adr/0035-key-slots.md` has the argument in full.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use dbbackup_storage::{ErrorKind, collect_listing};
use zeroize::Zeroizing;

use crate::access::KeySource;
use crate::envelope::Kind;
use crate::key_slot::{Slot, SlotId, build_slot};
use crate::names::LEAVING;
use crate::repository::{Inner, Repository};
use crate::slot_listing::{SlotState, find_slots, off_thread, opens};
use crate::stretching::{Budget, Kdf};
use crate::{Error, OpenedSlot, Result};

/// How old what another initialisation left must be before it goes.
const FOREIGN_AGE: Duration = Duration::from_hours(24);

/// What became of [`Repository::add_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedKey {
    /// The slot that the key opens.
    pub slot: SlotId,
    /// False if the key had it before.
    pub is_new: bool,
}

/// What became of [`Repository::rotate`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// A slot of each key that is listed, in their order.
    pub slots: Vec<OpenedSlot>,
    /// Names of the keys that got their slot just now.
    pub added: Vec<String>,
    /// Slots that were removed.
    pub removed: Vec<SlotId>,
    /// Slots that none of the keys opens: a person made them, or an earlier spec.
    pub others: Vec<(SlotId, Option<String>)>,
}

impl Repository {
    /// Makes sure that `source` opens the repository by a slot that stays. A key that
    /// has one gets no other, so it can be called again after any failure.
    ///
    /// # Errors
    /// `EncryptionMismatch` without encryption, `TooManyKeySlots` where a new one would
    /// not be found, or what the store says.
    pub async fn add_key(&self, source: &KeySource, kdf: Kdf) -> Result<AddedKey> {
        let inner = self.may_change_keys()?;
        let found = find_slots(&*inner.store).await?;
        if found.left_out > 0 {
            return Err(Error::TooManyKeySlots { slots: found.count() });
        }
        let slots = found.of(|id| id == self.id());
        let mut trials = Trials::new(inner, std::slice::from_ref(source), &[]);
        inner.ensure_slot(&mut trials, 0, &slots, kdf).await
    }

    /// Removes a slot. `remaining` are the keys that shall open the repository
    /// afterwards: at least one of them must, and none loses its only slot. False if
    /// it was gone.
    ///
    /// # Errors
    /// `KeySlotNeeded`, `EncryptionMismatch` without encryption, or what the store says.
    pub async fn remove_key(&self, slot: SlotId, remaining: &[KeySource]) -> Result<bool> {
        let inner = self.may_change_keys()?;
        let mut slots = find_slots(&*inner.store).await?.of(|id| id == self.id());
        // One of so many that it was not read: it may be the only one that a key opens.
        if !slots.iter().any(|known| known.id == slot)
            && let Ok(read) = inner.read_slot(slot).await
            && read.repository == self.id()
        {
            slots.push(read);
        }
        inner.remove_slot(&mut Trials::new(inner, remaining, &[slot]), slot, &slots).await
    }

    /// Brings the slots in line with a list of keys: each of `wanted` has a slot
    /// afterwards, and those of `retired` that none of them opens are gone. `opened`
    /// is what opening with the same keys gave. No other slot is touched, and none at
    /// all where this release may only read, or where there are more slots than are read:
    /// a new one would not be found, and another one made at the next time.
    ///
    /// # Errors
    /// `KeySlotNeeded`, `EncryptionMismatch` without encryption, or what the store
    /// says; what was done until then stays, and calling it again goes on.
    pub async fn rotate(
        &self,
        wanted: &[KeySource],
        opened: &[OpenedSlot],
        retired: &[SlotId],
        kdf: Kdf,
    ) -> Result<Rotation> {
        let unchanged = || Ok(Rotation { slots: opened.to_vec(), ..Rotation::default() });
        if self.inner.read_only.is_some() {
            return unchanged();
        }
        let inner = self.may_change_keys()?;
        let found = find_slots(&*inner.store).await?;
        if found.left_out > 0 {
            return unchanged();
        }
        let mut slots = found.of(|id| id == self.id());
        let mut trials = Trials::new(inner, wanted, retired);
        let mut rotation = Rotation::default();
        for (number, source) in wanted.iter().enumerate() {
            trials.remember(number, opened.iter().filter(|slot| slot.key == source.name));
            let added = inner.ensure_slot(&mut trials, number, &slots, kdf).await?;
            rotation.slots.push(OpenedSlot { key: source.name.clone(), slot: added.slot });
            if added.is_new {
                rotation.added.push(source.name.clone());
                slots.push(inner.read_slot(added.slot).await?);
            }
        }
        let mut kept = Vec::new();
        for slot in &slots {
            if trials.any_opens(slot).await? {
                kept.push(slot.id);
            } else if !retired.contains(&slot.id) {
                let label = slot.label(inner.keys.master())?;
                rotation.others.push((slot.id, label.map(|label| label.name)));
            }
        }
        // Also one that is damaged: its secret may open a copy of what it was.
        for slot in retired.iter().filter(|slot| !kept.contains(slot)) {
            if inner.remove_slot(&mut trials, *slot, &slots).await? {
                rotation.removed.push(*slot);
            }
        }
        Ok(rotation)
    }

    /// Removes what initialisations left that somebody else won, and ends of removals
    /// that were cut short, once they are a day old. `store_now` is the time by the
    /// store's clock, such as that of an object written just now. Gives the names.
    ///
    /// # Errors
    /// What the store says.
    pub async fn remove_foreign_key_slots(&self, store_now: SystemTime) -> Result<Vec<String>> {
        let inner = self.may_change_keys()?;
        let is_old = |modified: SystemTime| {
            store_now.duration_since(modified).is_ok_and(|age| age > FOREIGN_AGE)
        };
        let mut removed = Vec::new();
        for slot in self.key_slots().await? {
            if matches!(slot.state, SlotState::Foreign(_)) && is_old(slot.modified) {
                removed.push(slot.object);
            }
        }
        for object in collect_listing(inner.store.list(LEAVING)).await? {
            let id = object.name.strip_prefix(LEAVING).and_then(SlotId::parse);
            let Some(id) = id.filter(|_| is_old(object.modified)) else { continue };
            if inner.find(&id.object_name()).await?.is_none() {
                removed.push(object.name);
            }
        }
        for name in &removed {
            inner.store.delete(name).await?;
        }
        Ok(removed)
    }

    fn may_change_keys(&self) -> Result<&Inner> {
        if !self.is_encrypted() {
            return Err(Error::NotEncrypted);
        }
        self.inner.may_write()?;
        Ok(&self.inner)
    }
}

/// Which key opens which slot, tried once.
struct Trials<'a> {
    inner: &'a Inner,
    sources: &'a [KeySource],
    /// Slots that are about to go: whether a key opens them has to be known.
    leaving: HashSet<SlotId>,
    budgets: Vec<Budget>,
    known: HashMap<(usize, SlotId), bool>,
}

impl<'a> Trials<'a> {
    fn new(inner: &'a Inner, sources: &'a [KeySource], leaving: &[SlotId]) -> Self {
        let budgets = vec![Budget::default(); sources.len()];
        let leaving = leaving.iter().copied().collect();
        Self { inner, sources, leaving, budgets, known: HashMap::new() }
    }

    /// Takes over what is known from opening the repository.
    fn remember<'b>(&mut self, source: usize, opened: impl Iterator<Item = &'b OpenedSlot>) {
        self.known.extend(opened.map(|opened| ((source, opened.slot), true)));
    }

    /// Whether a key opens a slot, and so can be relied on to do so. Where that is too
    /// much work, it cannot.
    async fn opens(&mut self, source: usize, slot: &Slot) -> Result<bool> {
        if let Some(known) = self.known.get(&(source, slot.id)) {
            return Ok(*known);
        }
        let budget = &mut self.budgets[source];
        let budget = (!self.leaving.contains(&slot.id)).then_some(budget);
        // A slot with another master key opens nothing of this repository.
        let master = self.inner.keys.master();
        let opens = opens(slot, &self.sources[source], master, budget).await?;
        self.known.insert((source, slot.id), opens);
        Ok(opens)
    }

    async fn any_opens(&mut self, slot: &Slot) -> Result<bool> {
        for source in 0..self.sources.len() {
            if self.opens(source, slot).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The slots that a key opens beside the one that goes.
struct Witnesses<'a> {
    /// Whether it opens that one, too.
    loses: bool,
    slots: Vec<&'a Slot>,
}

impl Inner {
    /// A slot that the key opens and that stays; a new one if there is none.
    async fn ensure_slot(
        &self,
        trials: &mut Trials<'_>,
        source: usize,
        slots: &[Slot],
        kdf: Kdf,
    ) -> Result<AddedKey> {
        for slot in slots {
            if trials.opens(source, slot).await? && self.stays(slot).await? {
                return Ok(AddedKey { slot: slot.id, is_new: false });
            }
        }
        let key = trials.sources[source].clone();
        let (repository, master) = (self.keys.repository, Zeroizing::new(*self.keys.master()));
        let environment = self.environment.clone();
        let building = move || build_slot(repository, &master, &key, kdf, &*environment);
        let (id, slot) = off_thread(building).await?;
        if !self.create(&id.object_name(), slot.into()).await? {
            return Err(Error::System(format!("{} exists", id.object_name())));
        }
        // Somebody will rely on it: what stands there now must open.
        let written = self.read_slot(id).await?;
        if !trials.opens(source, &written).await? {
            return Err(Error::KeySlotDamaged(id.object_name()));
        }
        Ok(AddedKey { slot: id, is_new: true })
    }

    async fn remove_slot(
        &self,
        trials: &mut Trials<'_>,
        target: SlotId,
        slots: &[Slot],
    ) -> Result<bool> {
        let leaving = leaving_name(target);
        if self.find(&target.object_name()).await?.is_none() {
            // Ids are random and not used again: nothing comes back under this one.
            self.store.delete(&leaving).await?;
            return Ok(false);
        }
        let witnesses = self.witnesses(trials, target, slots).await?;
        self.put(Kind::Leaving, &leaving, b"{}").await?;
        if !self.suffice(&witnesses).await? {
            return Err(Error::KeySlotNeeded(format!(
                "key slot {target} stays: every other slot that the given keys open is about to \
                 be removed by somebody else"
            )));
        }
        self.store.delete(&target.object_name()).await?;
        self.store.delete(&leaving).await?;
        Ok(true)
    }

    /// On which slots the keys that remain can rely without `target`.
    async fn witnesses<'a>(
        &self,
        trials: &mut Trials<'_>,
        target: SlotId,
        slots: &'a [Slot],
    ) -> Result<Vec<Witnesses<'a>>> {
        let mut witnesses = Vec::new();
        for source in 0..trials.sources.len() {
            let mut of_key = Witnesses { loses: false, slots: Vec::new() };
            for slot in slots {
                if !trials.opens(source, slot).await? {
                    continue;
                }
                if slot.id == target {
                    of_key.loses = true;
                } else {
                    of_key.slots.push(slot);
                }
            }
            if of_key.loses && of_key.slots.is_empty() {
                let name = &trials.sources[source].name;
                return Err(Error::KeySlotNeeded(format!(
                    "key slot {target} is the only one that {name} opens"
                )));
            }
            witnesses.push(of_key);
        }
        if witnesses.iter().all(|of_key| of_key.slots.is_empty()) {
            return Err(Error::KeySlotNeeded(format!(
                "without key slot {target} no key that was given would open the repository"
            )));
        }
        Ok(witnesses)
    }

    /// Whether at least one key keeps a slot, and each that loses one keeps another.
    async fn suffice(&self, witnesses: &[Witnesses<'_>]) -> Result<bool> {
        let mut any_stays = false;
        for of_key in witnesses {
            let mut stays = false;
            for slot in &of_key.slots {
                stays = stays || self.stays(slot).await?;
            }
            if of_key.loses && !stays {
                return Ok(false);
            }
            any_stays = any_stays || stays;
        }
        Ok(any_stays)
    }

    /// Whether the slot is there as it was read, and nobody has begun to remove it.
    async fn stays(&self, slot: &Slot) -> Result<bool> {
        // In this order: the other way round the slot and then its `leaving/` could go
        // between the two, and both looks would be content.
        if self.is_leaving(slot.id).await? {
            return Ok(false);
        }
        let found = self.find(&slot.id.object_name()).await?;
        Ok(found.is_some_and(|found| slot.is(&found)))
    }

    /// Whether somebody has begun to remove the slot.
    pub(crate) async fn is_leaving(&self, slot: SlotId) -> Result<bool> {
        match self.store.head(&leaving_name(slot)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_slot(&self, slot: SlotId) -> Result<Slot> {
        let name = slot.object_name();
        let bytes = self.store.get(&name).await.map_err(Error::needed)?;
        Slot::parse(&name, &bytes)
    }
}

fn leaving_name(slot: SlotId) -> String {
    format!("{LEAVING}{slot}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dbbackup_storage::MemoryStore;

    use super::*;
    use crate::key_slot::build_slot_without_label;
    use crate::{Encryption, OpenOptions};

    #[tokio::test]
    async fn a_key_is_tried_on_a_slot_that_goes_also_where_its_budget_is_used_up() {
        let key = KeySource::raw("main", &[7; 32]).unwrap();
        let options = OpenOptions {
            initialize: dbbackup_contract::Initialize::IfEmpty,
            ..OpenOptions::default()
        };
        let by = Encryption::Keys(vec![key]);
        let opened = Repository::open_with(Arc::new(MemoryStore::new()), &by, options).await;
        let inner = opened.unwrap().repository.inner;
        let old = KeySource::passphrase("old", b"correct horse").unwrap();
        let (id, bytes) =
            build_slot_without_label(inner.keys.repository, inner.keys.master(), &old);
        let slot = Slot::parse(&id.object_name(), &bytes).unwrap();
        for (leaving, opens) in [(&[id][..], true), (&[], false)] {
            let sources = [old.clone()];
            let mut trials = Trials::new(&inner, &sources, leaving);
            trials.budgets = vec![Budget::of(0)];
            assert_eq!(trials.opens(0, &slot).await.unwrap(), opens);
        }
    }
}
