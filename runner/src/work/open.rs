//! Opening the repository that a task or a command names.

use std::sync::Arc;

use dbbackup_contract::{
    EncryptionAccess, Failure, KeyAccess, KeyKind, Reason, RepositoryAccess, StorageAccess,
};
use dbbackup_repository::{Encryption, KeySource, ReadSession, Repository};
use dbbackup_storage::{Store, VolumeOptions, VolumeStore};

/// Opens the repository and makes sure that it is the one that was pinned.
///
/// # Errors
/// What storage, secrets, keys and format say; `RepositoryChanged`.
pub(crate) async fn open(access: &RepositoryAccess) -> Result<Repository, Failure> {
    let encryption = encryption(&access.encryption)?;
    let repository = Repository::open(store(&access.storage).await?, &encryption).await?.repository;
    pinned(access, &repository)?;
    Ok(repository)
}

/// Where the repository is.
pub(super) async fn store(access: &StorageAccess) -> Result<Arc<dyn Store>, Failure> {
    let StorageAccess::Volume { path } = access;
    Ok(Arc::new(VolumeStore::open(path, VolumeOptions::default()).await?))
}

/// The keys' secrets, read afresh.
pub(super) fn encryption(access: &EncryptionAccess) -> Result<Encryption, Failure> {
    match access {
        EncryptionAccess::None {} => Ok(Encryption::None),
        EncryptionAccess::Keys(keys) => {
            keys.iter().map(key_source).collect::<Result<_, _>>().map(Encryption::Keys)
        }
    }
}

fn key_source(key: &KeyAccess) -> Result<KeySource, Failure> {
    let content = dbbackup_engine::read_secret(&key.file)?;
    let source = match key.kind {
        KeyKind::Passphrase => KeySource::passphrase(key.name.as_str(), &content),
        KeyKind::Key => KeySource::raw(key.name.as_str(), &content),
    };
    Ok(source?)
}

/// Refuses another repository than the one that the cluster knows.
pub(super) fn pinned(access: &RepositoryAccess, repository: &Repository) -> Result<(), Failure> {
    let found = repository.id().to_string();
    match &access.expected_id {
        Some(expected) if *expected != found => Err(Failure::new(
            Reason::RepositoryChanged,
            format!("repository {} has the id {found}, expected is {expected}", access.name),
        )),
        _ => Ok(()),
    }
}

/// Says that reading is over. If that cannot be written, the collector waits a
/// little longer; nothing else depends on it.
pub(crate) async fn end(session: ReadSession) {
    if let Err(error) = session.end().await {
        tracing::warn!(%error, "the end of reading was not noted");
    }
}
