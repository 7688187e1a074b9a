//! Which keys open a repository, and which of its configs counts (`docs/format.md`,
//! "Config" and "Key slots").
//!
//! Before the keys are known, anybody who may create objects can have written any
//! config or slot, and any number of them. So the oldest ones are read, which are ours,
//! and stretching has a budget.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::UNIX_EPOCH;

use dbbackup_storage::{ObjectInfo, Store};

use crate::access::{Encryption, KeySource};
use crate::config::{Config, ConfigObject, MAX_CONFIG_BYTES, config_number};
use crate::key_slot::{Slot, SlotId};
use crate::keyring::{Cipher, Keyring, RepositoryId};
use crate::names::CONFIG;
use crate::oldest::{oldest, read_each};
use crate::open::OpenedSlot;
use crate::slot_listing::{FoundSlots, find_slots, opens, try_slot};
use crate::stretching::{Budget, Stretching};
use crate::{Error, Result};

/// Most configs that are read, the oldest ones, in 17 MiB: a release makes one where it
/// adds a feature.
const MAX_CONFIGS: usize = 256;

/// A config as it was found: what its bytes say, or why they say nothing.
pub(crate) struct FoundConfig {
    whole: Result<ConfigObject>,
    read: Result<Config>,
}

/// A repository whose keys were found.
pub(crate) struct Unlocked {
    pub(crate) config: Config,
    pub(crate) keys: Keyring,
    pub(crate) opened_slots: Vec<OpenedSlot>,
}

/// The configs, the highest number first.
pub(crate) async fn find_configs(store: &dyn Store) -> Result<Vec<FoundConfig>> {
    let is_config = |name: &str| config_number(name).is_some();
    let mut listed = oldest(store, CONFIG, MAX_CONFIGS, is_config).await?.objects;
    // A listing may lag; a read does not.
    if listed.is_empty() {
        listed.push(ObjectInfo { name: format!("{CONFIG}0"), size: 0, modified: UNIX_EPOCH });
    }
    listed.sort_unstable_by_key(|object| Reverse(config_number(&object.name)));
    let found = read_each(store, listed, MAX_CONFIG_BYTES).await?.into_iter();
    let found = found.map(|(object, bytes)| {
        let whole = bytes.and_then(|bytes| ConfigObject::parse(&object.name, &bytes));
        let read = whole.as_ref().map_err(Clone::clone).and_then(ConfigObject::read);
        FoundConfig { whole, read }
    });
    Ok(found.collect())
}

/// Finds the keys, and then the highest config that a holder of them has written.
pub(crate) async fn unlock(
    store: &dyn Store,
    found: &[FoundConfig],
    encryption: &Encryption,
) -> Result<Unlocked> {
    match encryption {
        Encryption::None => unlock_clear(found),
        Encryption::Keys(sources) => unlock_sealed(store, found, sources, &Budget::default()).await,
    }
}

/// The same with encryption, where each secret may be stretched so much.
pub(crate) async fn unlock_sealed(
    store: &dyn Store,
    found: &[FoundConfig],
    sources: &[KeySource],
    budget: &Budget,
) -> Result<Unlocked> {
    let slots = find_slots(store).await?;
    let ids: HashSet<RepositoryId> = sealed(found).map(|config| config.repository).collect();
    let mut candidates = slots.of(|id| ids.contains(&id));
    // These cost nothing, and the master key tells forged slots without stretching.
    candidates.sort_by_key(|slot| slot.stretching != Stretching::RawKey);
    let mut trials = Trials::new(sources, budget);
    let mut forged = None;
    for slot in &candidates {
        for source in 0..sources.len() {
            let Some(keys) = trials.open(source, slot).await? else { continue };
            match vouched_for(found, &keys) {
                Ok(config) => {
                    let opener = (source, slot.id);
                    let opened_slots = trials.open_others(&keys, opener, &candidates).await?;
                    return Ok(Unlocked { config, keys, opened_slots });
                }
                Err(error @ Error::VersionUnsupported(_)) => return Err(error),
                Err(error) => forged = Some(error),
            }
        }
    }
    Err(forged.unwrap_or_else(|| refused(found, &slots, &trials)))
}

fn unlock_clear(found: &[FoundConfig]) -> Result<Unlocked> {
    // That of the lowest tells most: who may only create can put others above it alone.
    let mut refused = None;
    let mut tried = HashSet::new();
    for config in readable(found) {
        if config.cipher != Cipher::None {
            refused = Some(Error::Encrypted);
            continue;
        }
        if !tried.insert(config.repository) {
            continue;
        }
        let keys = Keyring::unencrypted(config.repository)?;
        match vouched_for(found, &keys) {
            Ok(config) => return Ok(Unlocked { config, keys, opened_slots: Vec::new() }),
            Err(error @ Error::VersionUnsupported(_)) => return Err(error),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| unreadable(found)))
}

fn readable(found: &[FoundConfig]) -> impl Iterator<Item = &Config> {
    found.iter().filter_map(|found| found.read.as_ref().ok())
}

fn sealed(found: &[FoundConfig]) -> impl Iterator<Item = &Config> {
    readable(found).filter(|config| config.cipher == Cipher::Aes256Gcm)
}

/// Why no config can be read.
fn unreadable(found: &[FoundConfig]) -> Error {
    let errors = || found.iter().filter_map(|found| found.read.as_ref().err());
    let unsupported = errors().find(|error| matches!(error, Error::VersionUnsupported(_)));
    let error = unsupported.or_else(|| errors().next()).cloned();
    error.unwrap_or_else(|| Error::Missing(format!("{CONFIG}0")))
}

/// Why no slot opens, by what the lowest config says.
fn refused(found: &[FoundConfig], slots: &FoundSlots, trials: &Trials<'_>) -> Error {
    let repository = match readable(found).last() {
        None => return unreadable(found),
        Some(config) if config.cipher == Cipher::None => return Error::NotEncrypted,
        Some(config) => config.repository,
    };
    if trials.gave_up || slots.left_out > 0 {
        return Error::TooManyKeySlots { slots: slots.count() };
    }
    let first = |is: fn(&Error) -> bool| {
        let errors = slots.slots.iter().filter_map(|found| found.slot.as_ref().err());
        errors.into_iter().find(|error| is(error)).cloned()
    };
    // The key may be right: its slot may be the damaged one.
    if let Some(damaged) = first(|error| matches!(error, Error::KeySlotDamaged(_))) {
        return damaged;
    }
    if !slots.of(|id| id == repository).is_empty() {
        return Error::WrongKey(trials.sources.len());
    }
    first(|error| matches!(error, Error::VersionUnsupported(_)))
        .unwrap_or_else(|| Error::Missing("every key slot".into()))
}

/// The highest config that a holder of `keys` has written.
fn vouched_for(found: &[FoundConfig], keys: &Keyring) -> Result<Config> {
    let mut passed_over = Vec::new();
    let mut counts = None;
    for FoundConfig { whole, read } in found {
        let Ok(whole) = whole else { continue };
        if let Err(error) = whole.verify(keys) {
            passed_over.push(error);
            continue;
        }
        match read {
            Ok(config) if config.repository == keys.repository => {
                counts = Some(config.clone());
                break;
            }
            Ok(_) => {}
            // A newer format is no damage: going on with an older config would
            // ignore what the newer one demands.
            Err(error @ Error::VersionUnsupported(_)) => return Err(error.clone()),
            Err(error) => passed_over.push(error.clone()),
        }
    }
    let last = passed_over.last();
    if let Some(error) = last {
        tracing::warn!(%error, configs = passed_over.len(), "passed over");
    }
    let missing = || last.cloned().unwrap_or_else(|| Error::Missing(format!("{CONFIG}0")));
    counts.ok_or_else(missing)
}

/// Tries secrets on slots, each pair once, and each secret within its budget.
struct Trials<'a> {
    sources: &'a [KeySource],
    budgets: Vec<Budget>,
    tried: HashSet<(usize, SlotId)>,
    /// A slot was not tried, since the budget was used up.
    gave_up: bool,
}

impl<'a> Trials<'a> {
    fn new(sources: &'a [KeySource], budget: &Budget) -> Self {
        let budgets = vec![budget.clone(); sources.len()];
        Self { sources, budgets, tried: HashSet::new(), gave_up: false }
    }

    /// The keys that a secret finds in a slot of which nobody knows who wrote it.
    async fn open(&mut self, source: usize, slot: &Slot) -> Result<Option<Keyring>> {
        let Some(work) = slot.stretching.work(&self.sources[source].secret) else {
            return Ok(None);
        };
        if !self.budgets[source].take(work) {
            self.gave_up = true;
            return Ok(None);
        }
        self.tried.insert((source, slot.id));
        let master = try_slot(slot, &self.sources[source]).await?;
        master.map(|master| Keyring::encrypted(slot.repository, master)).transpose()
    }

    /// A slot of each secret that opens one, once `opener` has given the master key:
    /// what it says of a slot costs nothing.
    async fn open_others(
        &mut self,
        keys: &Keyring,
        opener: (usize, SlotId),
        slots: &[Slot],
    ) -> Result<Vec<OpenedSlot>> {
        let mut opened = Vec::new();
        for source in 0..self.sources.len() {
            let slot = if source == opener.0 {
                Some(opener.1)
            } else {
                self.other_slot(source, keys, slots).await?
            };
            let key = self.sources[source].name.clone();
            opened.extend(slot.map(|slot| OpenedSlot { key, slot }));
        }
        Ok(opened)
    }

    /// The oldest slot that a secret opens, of those that it was not tried on.
    async fn other_slot(
        &mut self,
        source: usize,
        keys: &Keyring,
        slots: &[Slot],
    ) -> Result<Option<SlotId>> {
        let (secret, budget) = (&self.sources[source], &mut self.budgets[source]);
        for slot in slots.iter().filter(|slot| slot.repository == keys.repository) {
            let is_new = !self.tried.contains(&(source, slot.id));
            if is_new && opens(slot, secret, keys.master(), Some(&mut *budget)).await? {
                return Ok(Some(slot.id));
            }
        }
        Ok(None)
    }
}
