//! What lies below `keys/`: read whole, told apart, and described.

use std::time::SystemTime;

use dbbackup_storage::{ObjectInfo, Store};
use zeroize::Zeroizing;

use crate::access::KeySource;
use crate::key_slot::{Opening, Slot, SlotId, SlotLabel};
use crate::keyring::{KEY_BYTES, RepositoryId};
use crate::names::KEYS;
use crate::oldest::{Oldest, oldest, read_each};
use crate::repository::{Inner, Repository};
use crate::stretching::{Budget, Stretching};
use crate::{Error, Result};

/// Most slots that are read, the oldest ones: far more than keys were ever rotated.
const MAX_SLOTS: usize = 1024;
/// Nothing larger is read: a slot has 252 bytes, and those of later versions may grow.
const MAX_SLOT_BYTES: usize = 4 * 1024;

/// A key slot as it is found, without its secret.
#[derive(Clone, Debug)]
pub struct KeySlot {
    /// Name of its object, `keys/…`.
    pub object: String,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
    /// What it is.
    pub state: SlotState,
}

/// What a key slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It is whole, and of this repository.
    Whole {
        /// Its id.
        id: SlotId,
        /// How its secret is stretched.
        stretching: Stretching,
        /// What its writer said of it; none in slots of builds before labels.
        label: Option<SlotLabel>,
        /// Somebody has begun to remove it.
        leaving: bool,
    },
    /// It names this repository, but nobody with its master key has written it.
    Forged,
    /// It was left by an initialisation that somebody else won, and opens nothing.
    Foreign(RepositoryId),
    /// It was changed, cut, or put under another name.
    Damaged,
    /// A newer release wrote it.
    Unsupported(String),
}

/// A slot as it was read.
pub(crate) struct FoundSlot {
    pub(crate) object: String,
    pub(crate) modified: SystemTime,
    pub(crate) slot: Result<Slot>,
}

/// The slots that were found, the oldest first.
pub(crate) struct FoundSlots {
    pub(crate) slots: Vec<FoundSlot>,
    /// How many objects are newer than all of these, and were not read.
    pub(crate) left_out: u64,
}

/// Reads the oldest slots. One that goes meanwhile is left out, and so is what has no
/// slot's name: anybody who may write can put it there, and some stores cannot even be
/// asked for it. What cannot be read because the store fails is an error.
pub(crate) async fn find_slots(store: &dyn Store) -> Result<FoundSlots> {
    let is_slot = |name: &str| name.strip_prefix(KEYS).and_then(SlotId::parse).is_some();
    let Oldest { objects, left_out } = oldest(store, KEYS, MAX_SLOTS, is_slot).await?;
    let read = read_each(store, objects, MAX_SLOT_BYTES).await?.into_iter();
    let slots = read.map(|(ObjectInfo { name, modified, .. }, bytes)| {
        let damaged = |_| Error::KeySlotDamaged(name.clone());
        let slot = bytes.map_err(damaged).and_then(|bytes| Slot::parse(&name, &bytes));
        FoundSlot { object: name, modified, slot }
    });
    Ok(FoundSlots { slots: slots.collect(), left_out })
}

impl FoundSlots {
    /// The slots of these repositories that can be tried, the oldest first.
    pub(crate) fn of(&self, is_of: impl Fn(RepositoryId) -> bool) -> Vec<Slot> {
        let whole = self.slots.iter().filter_map(|found| found.slot.as_ref().ok());
        whole.filter(|slot| is_of(slot.repository)).cloned().collect()
    }

    /// How many objects `keys/` holds.
    pub(crate) fn count(&self) -> u64 {
        self.slots.len() as u64 + self.left_out
    }
}

impl Repository {
    /// What lies below `keys/`, sorted by name: the 1,024 oldest objects where there are
    /// more. No secret is tried.
    ///
    /// # Errors
    /// `EncryptionMismatch` without encryption, or what the store says.
    pub async fn key_slots(&self) -> Result<Vec<KeySlot>> {
        let inner = &*self.inner;
        if !self.is_encrypted() {
            return Err(Error::NotEncrypted);
        }
        let mut slots = Vec::new();
        let mut found = find_slots(&*inner.store).await?.slots;
        found.sort_unstable_by(|a, b| a.object.cmp(&b.object));
        for FoundSlot { object, modified, slot } in found {
            let state = match slot {
                Ok(slot) => inner.described(&slot).await?,
                Err(Error::VersionUnsupported(why)) => SlotState::Unsupported(why),
                Err(_) => SlotState::Damaged,
            };
            slots.push(KeySlot { object, modified, state });
        }
        Ok(slots)
    }
}

impl Inner {
    async fn described(&self, slot: &Slot) -> Result<SlotState> {
        if slot.repository != self.keys.repository {
            return Ok(SlotState::Foreign(slot.repository));
        }
        let label = slot.label(self.keys.master())?;
        if slot.has_label() && label.is_none() {
            return Ok(SlotState::Forged);
        }
        let leaving = self.is_leaving(slot.id).await?;
        Ok(SlotState::Whole { id: slot.id, stretching: slot.stretching, label, leaving })
    }
}

/// The master key, if `source` opens `slot`. Stretching takes a core for tenths of
/// seconds, and is done off the caller's thread.
pub(crate) async fn try_slot(
    slot: &Slot,
    source: &KeySource,
) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>> {
    let (slot, source) = (slot.clone(), source.clone());
    off_thread(move || match slot.open(&source)? {
        Opening::Opened(master) => Ok(Some(master)),
        Opening::WrongKey | Opening::NotForIt => Ok(None),
    })
    .await
}

/// Whether a secret opens a slot of the repository with this master key.
///
/// A label tells without stretching whether a holder of the master key has written the
/// slot. One without a label anybody may have written: it is tried within `budget`, or in
/// any case where there is none.
pub(crate) async fn opens(
    slot: &Slot,
    source: &KeySource,
    master: &[u8; KEY_BYTES],
    budget: Option<&mut Budget>,
) -> Result<bool> {
    let Some(work) = slot.stretching.work(&source.secret) else { return Ok(false) };
    let is_worth_it = if slot.has_label() {
        slot.label(master)?.is_some()
    } else {
        budget.is_none_or(|budget| budget.take(work))
    };
    Ok(is_worth_it && try_slot(slot, source).await?.is_some_and(|found| *found == *master))
}

/// Work that takes a core for tenths of seconds.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let work = tokio::task::spawn_blocking(work);
    work.await.map_err(|error| Error::System(error.to_string()))?
}
