//! Opening and creating a repository (`docs/format.md`, "Config" and "Key slots").

use std::sync::Arc;

use dbbackup_contract::Initialize;
use dbbackup_storage::{RetryPolicy, RetryingStore, Store, collect_listing};
use futures::StreamExt;
use zeroize::Zeroizing;

use crate::access::{Encryption, KeySource};
use crate::config::{Config, ConfigObject, build_config, config_number};
use crate::environment::{Environment, SystemEnvironment, random};
use crate::footers::Footers;
use crate::key_slot::{SlotId, build_slot};
use crate::keyring::{Cipher, KEY_BYTES, Keyring, RepositoryId};
use crate::moves::KnownMoves;
use crate::names::{CONFIG, KEYS, is_ours};
use crate::repository::{Inner, Repository};
use crate::slot_listing::{FoundSlot, find_slots, off_thread, slots_of, try_slot};
use crate::stretching::Kdf;
use crate::{Error, Result};

/// What opening a repository may differ in.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whether it may be created.
    pub initialize: Initialize,
    /// How often a store that is unavailable is tried again.
    pub retry: RetryPolicy,
    /// How passphrases are stretched, where it is created.
    pub kdf: Kdf,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            initialize: Initialize::Never,
            retry: RetryPolicy::default(),
            kdf: Kdf::default(),
            environment: Arc::new(SystemEnvironment),
        }
    }
}

/// A repository that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The repository.
    pub repository: Repository,
    /// Whether it was created just now.
    pub created: bool,
    /// The keys that open it, and a slot of each.
    pub opened_slots: Vec<OpenedSlot>,
}

/// A key that opens the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedSlot {
    /// The key's name.
    pub key: String,
    /// The slot that it opens.
    pub slot: SlotId,
}

impl Repository {
    /// Opens what is there, or creates a repository where the place is empty.
    ///
    /// # Errors
    /// What [`Repository::open_with`] says.
    pub async fn create_or_open(
        store: Arc<dyn Store>,
        encryption: &Encryption,
        initialize: Initialize,
    ) -> Result<Opened> {
        let options = OpenOptions { initialize, ..OpenOptions::default() };
        Self::open_with(store, encryption, options).await
    }

    /// Opens what is there.
    ///
    /// # Errors
    /// What [`Repository::open_with`] says.
    pub async fn open(store: Arc<dyn Store>, encryption: &Encryption) -> Result<Opened> {
        Self::open_with(store, encryption, OpenOptions::default()).await
    }

    /// Opens a repository, or creates it if `options` say so.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `RepositoryNotEmpty`, `RepositoryVersionUnsupported`,
    /// `RepositoryDamaged`, `ObjectMissing`, `EncryptionMismatch`, `WrongKey`,
    /// `KeySlotDamaged`, or what the store says.
    pub async fn open_with(
        store: Arc<dyn Store>,
        encryption: &Encryption,
        options: OpenOptions,
    ) -> Result<Opened> {
        let seed = u64::from_le_bytes(random(&*options.environment)?);
        let store: Arc<dyn Store> = Arc::new(RetryingStore::new(store, options.retry, seed));
        let mut created = false;
        let mut found = find_configs(&*store).await?;
        if found.is_empty() {
            may_create(&*store, options.initialize).await?;
            created = create(&*store, encryption, &options).await?;
            found = find_configs(&*store).await?;
        }
        let Unlocked { config, keys, opened_slots } = unlock(&*store, &found, encryption).await?;
        let inner = Inner {
            store,
            keys,
            environment: options.environment,
            footers: Footers::new(),
            moves: KnownMoves::default(),
            read_only: config.read_only,
            min_collector: config.min_collector,
        };
        Ok(Opened { repository: Self { inner: Arc::new(inner) }, created, opened_slots })
    }
}

/// A config as it was found: what its bytes say, or why they say nothing.
struct FoundConfig {
    whole: Result<ConfigObject>,
    read: Result<Config>,
}

/// The configs, the highest number first.
async fn find_configs(store: &dyn Store) -> Result<Vec<FoundConfig>> {
    let mut numbers: Vec<u32> = collect_listing(store.list(CONFIG))
        .await?
        .iter()
        .filter_map(|object| config_number(&object.name))
        .collect();
    // A listing may lag; a read does not.
    if numbers.is_empty() {
        numbers.push(0);
    }
    numbers.sort_unstable();
    let mut found = Vec::new();
    for number in numbers.into_iter().rev() {
        let name = format!("{CONFIG}{number}");
        let whole = match store.get(&name).await.map_err(Error::needed) {
            Ok(object) => ConfigObject::parse(&name, &object),
            Err(Error::Missing(_)) => continue,
            Err(error @ Error::Damaged { .. }) => Err(error),
            Err(error) => return Err(error),
        };
        let read = whole.as_ref().map_err(Clone::clone).and_then(ConfigObject::read);
        found.push(FoundConfig { whole, read });
    }
    Ok(found)
}

/// Whether a place without a config may become a repository.
async fn may_create(store: &dyn Store, initialize: Initialize) -> Result<()> {
    let mut listing = store.list("");
    while let Some(object) = listing.next().await {
        let name = object?.name;
        if !is_ours(&name) {
            return Err(Error::RepositoryNotEmpty(name));
        }
        // Slots alone are what a crash of an initialisation leaves.
        if !name.starts_with(KEYS) && !name.starts_with(CONFIG) {
            return Err(Error::Missing(format!("{CONFIG}0")));
        }
    }
    match initialize {
        Initialize::IfEmpty => Ok(()),
        Initialize::Never => Err(Error::RepositoryNotFound),
    }
}

/// Writes slots, then the config. False if somebody else was quicker.
async fn create(store: &dyn Store, encryption: &Encryption, options: &OpenOptions) -> Result<bool> {
    let environment = &*options.environment;
    let repository = RepositoryId(random(environment)?);
    let keys = match encryption {
        Encryption::None => Keyring::unencrypted(repository)?,
        Encryption::Keys(sources) => {
            if sources.is_empty() {
                return Err(Error::Misuse("an encrypted repository needs a key".into()));
            }
            let master = Zeroizing::new(random::<KEY_BYTES>(environment)?);
            for source in sources {
                let (source, master) = (source.clone(), master.clone());
                let (kdf, environment) = (options.kdf, options.environment.clone());
                let building = move || build_slot(repository, &master, &source, kdf, &*environment);
                let (id, slot) = off_thread(building).await?;
                store.create(&id.object_name(), slot.into()).await?;
            }
            Keyring::encrypted(repository, master)?
        }
    };
    let name = format!("{CONFIG}0");
    let config = bytes::Bytes::from(build_config(&keys, &name, environment.now())?);
    match store.create(&name, config.clone()).await? {
        dbbackup_storage::Creation::Created => Ok(true),
        dbbackup_storage::Creation::Exists => {
            Ok(store.get(&name).await.map_err(Error::needed)? == config)
        }
    }
}

/// A repository whose keys were found.
struct Unlocked {
    config: Config,
    keys: Keyring,
    opened_slots: Vec<OpenedSlot>,
}

/// Finds the keys, and then the highest config that a holder of them has written.
/// Before the keys are known, anybody may have written any of them: a higher one may
/// lead to no slot, or say that there is no encryption, and is passed over then.
async fn unlock(
    store: &dyn Store,
    found: &[FoundConfig],
    encryption: &Encryption,
) -> Result<Unlocked> {
    let slots = match encryption {
        Encryption::None => Vec::new(),
        Encryption::Keys(_) => find_slots(store).await?,
    };
    let mut tried = Vec::new();
    // That of the lowest tells most: who may only create can put others above it alone.
    let mut refused = None;
    for config in found.iter().filter_map(|found| found.read.as_ref().ok()) {
        if tried.contains(&(config.cipher, config.repository)) {
            continue;
        }
        tried.push((config.cipher, config.repository));
        let opened = match (config.cipher, encryption) {
            (Cipher::None, Encryption::None) => {
                Keyring::unencrypted(config.repository).map(|keys| (keys, Vec::new()))
            }
            (Cipher::None, Encryption::Keys(_)) => Err(Error::NotEncrypted),
            (Cipher::Aes256Gcm, Encryption::None) => Err(Error::Encrypted),
            (Cipher::Aes256Gcm, Encryption::Keys(sources)) => {
                try_slots(&slots, config.repository, sources).await
            }
        };
        let (keys, opened_slots) = match opened {
            Ok(opened) => opened,
            Err(error @ Error::System(_)) => return Err(error),
            Err(error) => {
                refused = Some(error);
                continue;
            }
        };
        match vouched_for(found, &keys) {
            Ok(config) => return Ok(Unlocked { config, keys, opened_slots }),
            Err(error @ Error::VersionUnsupported(_)) => return Err(error),
            Err(error) => refused = Some(error),
        }
    }
    let unread = || found.iter().filter_map(|found| found.read.as_ref().err());
    let unsupported = || unread().find(|error| matches!(error, Error::VersionUnsupported(_)));
    let unread = || unsupported().or_else(|| unread().next()).cloned();
    Err(refused.or_else(unread).unwrap_or_else(|| Error::Missing(format!("{CONFIG}0"))))
}

/// The highest config that a holder of `keys` has written.
fn vouched_for(found: &[FoundConfig], keys: &Keyring) -> Result<Config> {
    let mut forged = None;
    for FoundConfig { whole, read } in found {
        let Ok(whole) = whole else { continue };
        match whole.verify(keys) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "passed over");
                forged = Some(error);
                continue;
            }
        }
        match read {
            Ok(config) if config.repository == keys.repository => return Ok(config.clone()),
            Ok(_) => {}
            // A newer format is no damage: going on with an older config would
            // ignore what the newer one demands.
            Err(error @ Error::VersionUnsupported(_)) => return Err(error.clone()),
            Err(error) => tracing::warn!(%error, "passed over"),
        }
    }
    Err(forged.unwrap_or_else(|| Error::Missing(format!("{CONFIG}0"))))
}

/// Opens the slots of a repository with every key that was given.
async fn try_slots(
    found: &[FoundSlot],
    repository: RepositoryId,
    sources: &[KeySource],
) -> Result<(Keyring, Vec<OpenedSlot>)> {
    let (damaged, unsupported) = hindrances(found);
    let slots = slots_of(found, repository);
    let (mut keyring, mut opened): (Option<Keyring>, _) = (None, Vec::new());
    for source in sources {
        for slot in &slots {
            let Some(master) = try_slot(slot, source).await? else { continue };
            match &keyring {
                None => keyring = Some(Keyring::encrypted(repository, master)?),
                // A slot with another master key opens nothing of this repository.
                Some(known) if *known.master() != *master => continue,
                Some(_) => {}
            }
            opened.push(OpenedSlot { key: source.name.clone(), slot: slot.id });
            break;
        }
    }
    if let Some(keyring) = keyring {
        return Ok((keyring, opened));
    }
    // The key may be right: its slot may be the damaged one.
    Err(damaged.unwrap_or_else(|| match (slots.is_empty(), unsupported) {
        (true, Some(error)) => error,
        (true, None) => Error::Missing("every key slot".into()),
        (false, _) => Error::WrongKey(sources.len()),
    }))
}

/// The first slot that is damaged, and the first that only a newer release reads.
fn hindrances(found: &[FoundSlot]) -> (Option<Error>, Option<Error>) {
    let first = |is: fn(&Error) -> bool| {
        found.iter().filter_map(|found| found.slot.as_ref().err()).find(|error| is(error)).cloned()
    };
    (
        first(|error| matches!(error, Error::KeySlotDamaged(_))),
        first(|error| matches!(error, Error::VersionUnsupported(_))),
    )
}
