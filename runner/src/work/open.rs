//! Opening the repository that a task or a command names.

use std::time::Duration;

use dbbackup_contract::{EncryptionAccess, Failure, KeyAccess, KeyKind, Reason, RepositoryAccess};
use dbbackup_repository::{
    Encryption, Error, KeySource, OpenOptions, Opened, ReadSession, Repository,
};

use super::place;
use super::storage::store;
use crate::patience::briefly;

/// Opens the repository and makes sure that it is the one that was pinned.
///
/// # Errors
/// What storage, secrets, keys and format say; `RepositoryChanged`; `Stalled`.
pub(crate) async fn open(
    access: &RepositoryAccess,
    stall_timeout: Duration,
) -> Result<Repository, Failure> {
    let (opened, _) = open_with_keys(access, stall_timeout).await?;
    Ok(opened.repository)
}

/// The same, with what is known of its keys, and the keys themselves.
///
/// # Errors
/// The same.
pub(crate) async fn open_with_keys(
    access: &RepositoryAccess,
    stall_timeout: Duration,
) -> Result<(Opened, Vec<KeySource>), Failure> {
    let encryption = encryption(&access.encryption).await?;
    let store = store(access, stall_timeout).await?;
    let options = OpenOptions { read_only: !access.mode.may_write(), ..OpenOptions::default() };
    let opened = Repository::open_with(store, &encryption, options).await;
    let opened = opened.map_err(|error| refused(error, access))?;
    pinned(access, &opened.repository)?;
    let keys = match encryption {
        Encryption::Keys(keys) => keys,
        Encryption::None => Vec::new(),
    };
    Ok((opened, keys))
}

/// One key's secret, read from its file.
///
/// # Errors
/// The file cannot be read, or holds no key.
pub(crate) async fn read_key(key: &KeyAccess) -> Result<KeySource, Failure> {
    let key = key.clone();
    let reading = tokio::task::spawn_blocking(move || key_source(&key));
    reading.await.map_err(|error| {
        Failure::new(Reason::Internal, format!("the reading of a key died: {error}"))
    })?
}

/// The keys' secrets, read afresh; off the caller's thread, since a file may be a
/// pipe that somebody else has yet to fill.
pub(super) async fn encryption(access: &EncryptionAccess) -> Result<Encryption, Failure> {
    let EncryptionAccess::Keys(keys) = access else { return Ok(Encryption::None) };
    let keys = keys.clone();
    let reading = tokio::task::spawn_blocking(move || keys.iter().map(key_source).collect());
    let read: Result<_, Failure> = reading.await.map_err(|error| {
        Failure::new(Reason::Internal, format!("the reading of keys died: {error}"))
    })?;
    read.map(Encryption::Keys)
}

fn key_source(key: &KeyAccess) -> Result<KeySource, Failure> {
    let content = dbbackup_engine::read_secret(&key.file)?;
    let source = match key.kind {
        KeyKind::Passphrase => KeySource::passphrase(key.name.as_str(), &content),
        KeyKind::Key => KeySource::raw(key.name.as_str(), &content),
    };
    source.map_err(|error| match error {
        Error::KeyInvalid { detail, .. } => {
            Failure::new(Reason::WrongKey, format!("{} is no key: {detail}", key.file.described()))
                .with_hint(how_to_make(key.kind))
        }
        other => other.into(),
    })
}

fn how_to_make(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Passphrase => "A passphrase is text that is hard to guess; keep a copy elsewhere.",
        KeyKind::Key => {
            "A key is made by: head -c 32 /dev/urandom. If it is a passphrase, give it as one \
             (passphraseSecretRef, --passphrase-file)."
        }
    }
}

/// Why a repository does not open, with the place that was looked at or the secrets that were
/// tried.
pub(super) fn refused(error: Error, access: &RepositoryAccess) -> Failure {
    if let Error::RepositoryNotFound(instead) | Error::RepositoryNotEmpty(instead) = &error {
        return place::no_repository(error.reason(), instead, access);
    }
    let EncryptionAccess::Keys(keys) = &access.encryption else { return error.into() };
    if !matches!(error, Error::WrongKey(_)) {
        return error.into();
    }
    let tried: Vec<_> = keys.iter().map(|key| key.file.described()).collect();
    let message = match tried.as_slice() {
        [only] => format!("does not open the repository: {only}"),
        all => format!("none of these opens the repository: {}", all.join(", ")),
    };
    Failure::new(Reason::WrongKey, message)
}

/// A failure with the name of the `repository`, where it is the repository's or its storage's.
pub(crate) fn named(failure: Failure, repository: &str) -> Failure {
    match failure.reason {
        Reason::StorageFull
        | Reason::StorageUnavailable
        | Reason::StoragePermissionDenied
        | Reason::StorageUnsuitable
        | Reason::RepositoryNotFound
        | Reason::RepositoryNotEmpty
        | Reason::RepositoryDamaged
        | Reason::RepositoryReadOnly
        | Reason::ObjectMissing
        | Reason::KeySlotDamaged
        | Reason::TooManyKeySlots
        | Reason::KeySlotNeeded
        | Reason::KeySlotNotFound
        | Reason::EncryptionMismatch
        | Reason::RepositoryVersionUnsupported
        | Reason::SnapshotNotFound => {
            let message = format!("repository {repository}: {}", failure.message);
            Failure { message, ..failure }
        }
        _ => failure,
    }
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

/// Says that reading is over. If that cannot be written soon, the collector
/// waits a little longer; nothing else depends on it.
pub(crate) async fn end(session: ReadSession) {
    match briefly(session.end()).await {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!(%error, "the end of reading was not noted"),
        None => tracing::warn!("the end of reading was not noted: the repository is silent"),
    }
}
