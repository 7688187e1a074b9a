//! Opening and creating a repository (`docs/format.md`, "Config" and "Key slots").

use std::collections::HashSet;
use std::sync::Arc;

use dbbackup_contract::Initialize;
use dbbackup_storage::{RetryPolicy, RetryingStore, Store};
use futures::StreamExt;
use zeroize::Zeroizing;

use crate::access::Encryption;
use crate::config::{build_config, config_number};
use crate::environment::{Environment, SystemEnvironment, random};
use crate::footers::Footers;
use crate::key_slot::{SlotId, build_slot};
use crate::keyring::{KEY_BYTES, Keyring, RepositoryId};
use crate::moves::KnownMoves;
use crate::names::{CONFIG, KEYS, is_ours};
use crate::repository::{Inner, ReadOnly, Repository};
use crate::slot_listing::off_thread;
use crate::stretching::Kdf;
use crate::unlock::{Unlocked, find_configs, unlock};
use crate::{Error, Instead, Result};

/// Objects of a listing that are looked at where no repository is, in search of one.
const MAX_LOOKED_AT: usize = 10_000;

/// Folders that are looked into then.
const MAX_FOLDERS: usize = 100;

/// What opening a repository may differ in.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whether it may be created.
    pub initialize: Initialize,
    /// Nothing is written, not even a session: it is not created, and whoever reads is not
    /// waited for when what is let go meanwhile is deleted. The store needs no right to write.
    pub read_only: bool,
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
            read_only: false,
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
    /// `KeySlotDamaged`, `TooManyKeySlots`, or what the store says.
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
            let initialize = if options.read_only { Initialize::Never } else { options.initialize };
            may_create(&*store, initialize).await?;
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
            read_only: match (config.read_only, options.read_only) {
                (true, _) => Some(ReadOnly::NewerRelease),
                (false, true) => Some(ReadOnly::AsAsked),
                (false, false) => None,
            },
            min_collector: config.min_collector,
        };
        Ok(Opened { repository: Self { inner: Arc::new(inner) }, created, opened_slots })
    }
}

/// Whether a place without a config may become a repository.
async fn may_create(store: &dyn Store, initialize: Initialize) -> Result<()> {
    let refused = |instead| match initialize {
        Initialize::IfEmpty => Error::RepositoryNotEmpty(instead),
        Initialize::Never => Error::RepositoryNotFound(instead),
    };
    let mut listing = store.list("");
    while let Some(object) = listing.next().await {
        let name = object?.name;
        if !is_ours(&name) {
            return Err(refused(what_is_there(store, name).await?));
        }
        // Slots alone are what a crash of an initialisation leaves.
        if !name.starts_with(KEYS) && !name.starts_with(CONFIG) {
            return Err(Error::Missing(format!("{CONFIG}0")));
        }
    }
    match initialize {
        Initialize::IfEmpty => Ok(()),
        Initialize::Never => Err(refused(Instead::Nothing)),
    }
}

/// Looks for a repository in a folder below: whoever forgets a part of the path is to be told.
///
/// `first` is the first of the things that are there.
async fn what_is_there(store: &dyn Store, first: String) -> Result<Instead> {
    let (mut listing, mut seen) = (store.list("").take(MAX_LOOKED_AT), HashSet::new());
    while let Some(object) = listing.next().await {
        let name = object?.name;
        let folders = folders_with_ours(&name).filter(|folder| !seen.contains(*folder));
        let folders: Vec<_> = folders.map(str::to_owned).collect();
        for folder in folders {
            if seen.len() == MAX_FOLDERS {
                return Ok(Instead::Others(first));
            }
            let mut configs = store.list(&format!("{folder}/{CONFIG}")).take(MAX_LOOKED_AT);
            while let Some(config) = configs.next().await {
                if config_number(&config?.name[folder.len() + 1..]).is_some() {
                    return Ok(Instead::Below(folder));
                }
            }
            seen.insert(folder);
        }
    }
    Ok(Instead::Others(first))
}

/// The folders below which `name` may be an object of a repository.
fn folders_with_ours(name: &str) -> impl Iterator<Item = &str> {
    let slashes = name.match_indices('/').map(|(at, _)| at);
    slashes.filter(|at| is_ours(&name[at + 1..])).map(|at| &name[..at])
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
