//! What lies below `keys/`: read whole, told apart, and described.

use std::time::SystemTime;

use dbbackup_storage::{Store, collect_listing};
use zeroize::Zeroizing;

use crate::access::KeySource;
use crate::key_slot::{Opening, Slot, SlotId, SlotLabel};
use crate::keyring::{KEY_BYTES, RepositoryId};
use crate::names::KEYS;
use crate::repository::{Inner, Repository};
use crate::stretching::Stretching;
use crate::{Error, Result};

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

/// Reads every slot. One that goes meanwhile is left out, and so is what has no slot's
/// name: anybody who may write can put it there, and some stores cannot even be asked
/// for it. What cannot be read because the store fails is an error.
pub(crate) async fn find_slots(store: &dyn Store) -> Result<Vec<FoundSlot>> {
    let mut found = Vec::new();
    for object in collect_listing(store.list(KEYS)).await? {
        if object.name.strip_prefix(KEYS).and_then(SlotId::parse).is_none() {
            tracing::warn!(object = object.name, "no key slot has a name like that: skipped");
            continue;
        }
        let slot = match store.get(&object.name).await.map_err(Error::needed) {
            Ok(bytes) => Slot::parse(&object.name, &bytes),
            Err(Error::Missing(_)) => continue,
            Err(Error::Damaged { name, .. }) => Err(Error::KeySlotDamaged(name)),
            Err(error) => return Err(error),
        };
        found.push(FoundSlot { object: object.name, modified: object.modified, slot });
    }
    Ok(found)
}

/// The slots of `repository` that can be tried.
pub(crate) fn slots_of(found: &[FoundSlot], repository: RepositoryId) -> Vec<Slot> {
    let whole = found.iter().filter_map(|found| found.slot.as_ref().ok());
    whole.filter(|slot| slot.repository == repository).cloned().collect()
}

impl Repository {
    /// All that lies below `keys/`, sorted by name. No secret is tried.
    ///
    /// # Errors
    /// `EncryptionMismatch` without encryption, or what the store says.
    pub async fn key_slots(&self) -> Result<Vec<KeySlot>> {
        let inner = &*self.inner;
        if !self.is_encrypted() {
            return Err(Error::NotEncrypted);
        }
        let mut slots = Vec::new();
        for FoundSlot { object, modified, slot } in find_slots(&*inner.store).await? {
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

/// Work that takes a core for tenths of seconds.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let work = tokio::task::spawn_blocking(work);
    work.await.map_err(|error| Error::System(error.to_string()))?
}
