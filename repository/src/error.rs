//! What can go wrong with a repository, and the stable reason of each.

use std::fmt;
use std::sync::Arc;

use dbbackup_contract::{Failure, Reason, listed};

use crate::SnapshotId;

/// Result of a repository's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation of a repository.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store could not do it.
    #[error(transparent)]
    Storage(#[from] dbbackup_storage::Error),
    /// There is no repository at this place, and none was to be created.
    #[error("there is no repository here{0}")]
    RepositoryNotFound(Instead),
    /// One was to be created, and the place holds other things.
    #[error("there is no repository here{0}")]
    RepositoryNotEmpty(Instead),
    /// The format, or a feature of it, is unknown to this release.
    #[error("{0}")]
    VersionUnsupported(String),
    /// Something was to be written to a repository that is opened for reading only.
    #[error("the repository is opened for reading only")]
    ReadOnly,
    /// No key that was given opens the repository.
    #[error("no key that was given opens the repository ({0} tried)")]
    WrongKey(usize),
    /// No key that was given opens the repository, and a slot is damaged.
    #[error("key slot {0} is damaged, and no other opens with the keys that were given")]
    KeySlotDamaged(String),
    /// There are more key slots than are tried.
    #[error(
        "keys/ holds {slots} key slots, which are more than are tried: the keys that were given open none of the oldest"
    )]
    TooManyKeySlots {
        /// How many objects there are.
        slots: u64,
    },
    /// A key slot cannot be removed: nothing else would open the repository.
    #[error("{0}")]
    KeySlotNeeded(String),
    /// The content of a key's file is no key.
    #[error("key {name}: {detail}")]
    KeyInvalid {
        /// The key's name in the spec.
        name: String,
        /// What is wrong; shows nothing of the key.
        detail: String,
    },
    /// A key was given for an unencrypted repository.
    #[error("the repository is not encrypted, but keys were given")]
    NotEncrypted,
    /// No key was given for an encrypted repository.
    #[error("the repository is encrypted, but encryption none was given")]
    Encrypted,
    /// An object was changed, cut or swapped.
    #[error("{name} is damaged: {detail}")]
    Damaged {
        /// The object, or what it should hold.
        name: String,
        /// What does not fit.
        detail: String,
    },
    /// An object that is needed is gone.
    #[error("{0} is gone")]
    Missing(String),
    /// No snapshot's id begins so.
    #[error("no snapshot has an id that begins with {0:?}")]
    SnapshotNotFound(String),
    /// Several snapshots' ids begin so.
    #[error("{count} snapshots have an id that begins with {prefix:?}; the newest: {newest}")]
    SnapshotAmbiguous {
        /// What was asked for.
        prefix: String,
        /// How many fit.
        count: usize,
        /// The newest of them.
        newest: SnapshotId,
    },
    /// The snapshot has no such stream.
    #[error("snapshot {snapshot} has no stream {name:?}")]
    StreamNotFound {
        /// The snapshot.
        snapshot: String,
        /// The stream's name.
        name: String,
    },
    /// The snapshot was written off.
    #[error("snapshot {snapshot} was written off: {reason}")]
    WrittenOff {
        /// The snapshot.
        snapshot: String,
        /// Why, in the words of whoever did it.
        reason: String,
    },
    /// A later attempt or maintenance has given this one up.
    #[error("session {0} was given up before it could commit")]
    Fenced(String),
    /// The run was made, and its snapshot was let go since.
    #[error("snapshot {0} was made, and was let go since")]
    Forgotten(String),
    /// The snapshot is pinned.
    #[error("snapshot {0} is pinned")]
    Pinned(String),
    /// Snapshots are gone, and nothing says that they were to go.
    #[error("snapshots are gone that nobody has let go: {}", listed(.0, 5))]
    SnapshotsMissing(Vec<String>),
    /// More would be deleted than the caller allows.
    #[error(
        "{percent} % of the stored bytes would be deleted, more than the {limit} % that are allowed; the plan is {plan}"
    )]
    TooMuchToDelete {
        /// Share of the stored bytes, in percent, rounded up.
        percent: u64,
        /// The largest share that may go.
        limit: u8,
        /// The digest that approves of it.
        plan: String,
    },
    /// The caller asked for what cannot be.
    #[error("{0}")]
    Misuse(String),
    /// The caller cancelled.
    #[error("the work was cancelled")]
    Cancelled,
    /// An earlier step of the same backup has failed.
    #[error("the backup has failed already: {0}")]
    Failed(Arc<Error>),
    /// The system gives no random numbers, a thread died, or memory is short.
    #[error("{0}")]
    System(String),
}

/// What there is where a repository was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Nothing.
    Nothing,
    /// Other things, such as this one.
    Others(String),
    /// What looks like a repository, in this folder below.
    Below(String),
}

/// The end of a sentence that says that there is no repository.
impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Others(name) => write!(f, ", but other things: {name}"),
            Self::Below(folder) => write!(f, "; one seems to be in the folder {folder} below it"),
        }
    }
}

impl Error {
    pub(crate) fn damaged(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged { name: name.into(), detail: detail.into() }
    }

    /// What `error` means where an object was expected to be there.
    pub(crate) fn needed(error: dbbackup_storage::Error) -> Self {
        use dbbackup_storage::ErrorKind;
        match error.kind {
            ErrorKind::NotFound => Self::Missing(error.name),
            ErrorKind::Truncated => Self::Damaged { name: error.name, detail: error.detail },
            _ => Self::Storage(error),
        }
    }

    /// The object that it speaks of, if it is one.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Damaged { name, .. } | Self::Missing(name) | Self::KeySlotDamaged(name) => {
                Some(&**name).filter(|name| crate::names::is_ours(name))
            }
            _ => None,
        }
    }

    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Storage(error) => Failure::from(error.clone()).reason,
            Self::RepositoryNotFound(_) => Reason::RepositoryNotFound,
            Self::RepositoryNotEmpty(_) => Reason::RepositoryNotEmpty,
            Self::VersionUnsupported(_) => Reason::RepositoryVersionUnsupported,
            Self::ReadOnly => Reason::RepositoryReadOnly,
            Self::WrongKey(_) | Self::KeyInvalid { .. } => Reason::WrongKey,
            Self::KeySlotDamaged(_) => Reason::KeySlotDamaged,
            Self::TooManyKeySlots { .. } => Reason::TooManyKeySlots,
            Self::KeySlotNeeded(_) => Reason::KeySlotNeeded,
            Self::NotEncrypted | Self::Encrypted => Reason::EncryptionMismatch,
            Self::Damaged { .. } => Reason::RepositoryDamaged,
            Self::Missing(_) => Reason::ObjectMissing,
            Self::SnapshotNotFound(_) => Reason::SnapshotNotFound,
            Self::SnapshotAmbiguous { .. } => Reason::SnapshotAmbiguous,
            Self::StreamNotFound { .. } => Reason::StreamNotFound,
            Self::WrittenOff { .. } => Reason::SnapshotWrittenOff,
            Self::Fenced(_) => Reason::Fenced,
            Self::Forgotten(_) => Reason::SnapshotForgotten,
            Self::Pinned(_) => Reason::SnapshotPinned,
            Self::SnapshotsMissing(_) => Reason::SnapshotsMissing,
            Self::TooMuchToDelete { .. } => Reason::TooMuchToDelete,
            Self::Cancelled => Reason::Interrupted,
            Self::Failed(error) => error.reason(),
            Self::Misuse(_) | Self::System(_) => Reason::Internal,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Storage(error) => error.into(),
            Error::Failed(error) => (*error).clone().into(),
            other => Self::new(other.reason(), other.to_string()),
        }
    }
}
