//! Opening and creating a repository (`docs/format.md`, "Config" and "Key slots").

use std::sync::Arc;

use dbbackup_contract::Initialize;
use dbbackup_storage::{RetryPolicy, RetryingStore, Store, collect_listing};
use futures::StreamExt;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::access::{Encryption, KeySource};
use crate::config::{Config, build_config, config_number};
use crate::environment::{Environment, SystemEnvironment, random};
use crate::footers::Footers;
use crate::key_slot::{Opening, Slot, build_slot};
use crate::keyring::{Cipher, KEY_BYTES, Keyring, RepositoryId};
use crate::names::{CONFIG, KEYS, is_ours};
use crate::repository::{Inner, Repository};
use crate::{Error, Result};

/// What opening a repository may differ in.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whether it may be created.
    pub initialize: Initialize,
    /// How often a store that is unavailable is tried again.
    pub retry: RetryPolicy,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            initialize: Initialize::Never,
            retry: RetryPolicy::default(),
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
    /// Names of the keys that open it.
    pub opened_slots: Vec<String>,
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
        let config = match find_config(&*store).await? {
            Some(config) => config,
            None => {
                may_create(&*store, options.initialize).await?;
                created = create(&*store, encryption, &*options.environment).await?;
                find_config(&*store).await?.ok_or_else(|| Error::Missing(format!("{CONFIG}0")))?
            }
        };
        let (keys, opened_slots) = match (config.cipher, encryption) {
            (Cipher::None, Encryption::None) => {
                (Keyring::unencrypted(config.repository)?, Vec::new())
            }
            (Cipher::None, Encryption::Keys(_)) => return Err(Error::NotEncrypted),
            (Cipher::Aes256Gcm, Encryption::None) => return Err(Error::Encrypted),
            (Cipher::Aes256Gcm, Encryption::Keys(sources)) => {
                unlock(&*store, &config, sources).await?
            }
        };
        config.verify(&keys)?;
        let inner = Inner {
            store,
            keys,
            environment: options.environment,
            footers: Footers::new(),
            read_only: config.read_only,
            min_collector: config.min_collector,
        };
        Ok(Opened { repository: Self { inner: Arc::new(inner) }, created, opened_slots })
    }

    /// Adds a key slot for `source`, so that it opens the repository as well.
    ///
    /// # Errors
    /// What the store says.
    pub async fn add_key(&self, source: &KeySource) -> Result<()> {
        if !self.is_encrypted() {
            return Err(Error::NotEncrypted);
        }
        let inner = &self.inner;
        let (repository, source) = (self.id(), source.clone());
        let (keys, environment) = (Arc::clone(inner), Arc::clone(&inner.environment));
        let (name, slot) =
            off_thread(move || build_slot(repository, keys.keys.master(), &source, &*environment))
                .await?;
        if inner.create(&name, slot.into()).await? {
            Ok(())
        } else {
            Err(Error::System(format!("{name} exists")))
        }
    }
}

/// The valid config with the highest number.
async fn find_config(store: &dyn Store) -> Result<Option<Config>> {
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
    let mut unreadable = None;
    for number in numbers.into_iter().rev() {
        let name = format!("{CONFIG}{number}");
        let object = match store.get(&name).await {
            Ok(object) => object,
            Err(error) if error.kind == dbbackup_storage::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::needed(error)),
        };
        match Config::parse(&name, &object) {
            Ok(config) => return Ok(Some(config)),
            // A newer format is no damage: going on with an older config would
            // ignore what the newer one demands.
            Err(error @ Error::VersionUnsupported(_)) => return Err(error),
            Err(error) => unreadable = unreadable.or(Some(error)),
        }
    }
    unreadable.map_or(Ok(None), Err)
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
async fn create(
    store: &dyn Store,
    encryption: &Encryption,
    environment: &dyn Environment,
) -> Result<bool> {
    let repository = RepositoryId(random(environment)?);
    let keys = match encryption {
        Encryption::None => Keyring::unencrypted(repository)?,
        Encryption::Keys(sources) => {
            if sources.is_empty() {
                return Err(Error::Misuse("an encrypted repository needs a key".into()));
            }
            let master = Zeroizing::new(random::<KEY_BYTES>(environment)?);
            for source in sources {
                let (name, slot) = build_slot(repository, &master, source, environment)?;
                store.create(&name, slot.into()).await?;
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

/// Opens the key slots with every key that was given.
async fn unlock(
    store: &dyn Store,
    config: &Config,
    sources: &[KeySource],
) -> Result<(Keyring, Vec<String>)> {
    let (mut slots, mut damaged) = (Vec::new(), None);
    for object in collect_listing(store.list(KEYS)).await? {
        let slot = store.get(&object.name).await.map_err(Error::needed);
        match slot.and_then(|bytes| Slot::parse(&object.name, &bytes)) {
            Ok(slot) if slot.belongs_to(config.repository) => slots.push(slot),
            // Another repository's, a newer release's, or just removed.
            Ok(_) | Err(Error::VersionUnsupported(_) | Error::Missing(_)) => {}
            Err(Error::KeySlotDamaged(name)) => damaged = Some(name),
            Err(Error::Damaged { name, .. }) => damaged = Some(name),
            Err(error) => return Err(error),
        }
    }
    let nothing_left = slots.is_empty();
    let (tried, config_too) = (sources.to_vec(), config.clone());
    let opened = off_thread(move || open_slots(&slots, &tried, &config_too)).await?;
    match (opened, damaged) {
        (Some(opened), _) => Ok(opened),
        (None, Some(name)) => Err(Error::KeySlotDamaged(name)),
        (None, None) if nothing_left => Err(Error::Missing("every key slot".into())),
        (None, None) => Err(Error::WrongKey(sources.len())),
    }
}

/// Which sources open a slot, and the keys behind them.
fn open_slots(
    slots: &[Slot],
    sources: &[KeySource],
    config: &Config,
) -> Result<Option<(Keyring, Vec<String>)>> {
    let (mut keyring, mut opened): (Option<Keyring>, _) = (None, Vec::new());
    for source in sources {
        for slot in slots {
            let Opening::Opened(master) = slot.open(source)? else { continue };
            match &keyring {
                None => keyring = Some(Keyring::encrypted(config.repository, master)?),
                // A slot with another master key opens nothing of this repository.
                Some(known) if *known.master() != *master => continue,
                Some(_) => {}
            }
            opened.push(source.name.clone());
            break;
        }
    }
    Ok(keyring.map(|keyring| (keyring, opened)))
}

/// Stretching passphrases takes a core for tenths of seconds.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| Error::System(error.to_string()))?
}
