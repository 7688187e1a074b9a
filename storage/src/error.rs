//! What a store says when it cannot do what it was asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{Failure, Reason};

/// Result of a store's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is: the caller decides by this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no object of this name.
    NotFound,
    /// The object ends before the range that was asked for.
    Truncated,
    /// The store has no room.
    Full,
    /// This user may not do that.
    PermissionDenied,
    /// The store did not answer as it should; another try may succeed. Whether
    /// the operation took effect is unknown.
    Unavailable,
    /// The store gave no answer within the limit of a [`crate::TimedStore`].
    /// Whether the operation took effect, or will, is unknown.
    Silent,
    /// The store cannot keep the promises of the contract.
    Unsuitable,
    /// What was said of the store is wrong: there is no such bucket, it lies in
    /// another region, no credentials were given. Nothing but a correction helps.
    Misconfigured,
    /// The caller broke the contract: a bad name, an object that is too large.
    Misuse,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Opening the store.
    Open,
    /// Creating an object.
    Create,
    /// Reading an object or a part of it.
    Read,
    /// Asking for an object's size.
    Head,
    /// Listing names.
    List,
    /// Deleting an object.
    Delete,
    /// Extending an object's lock.
    Keep,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "write",
            Self::Read => "read",
            Self::Head => "look at",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Keep => "lock",
        })
    }
}

/// A failed operation of a store.
#[derive(Clone, Debug)]
pub struct Error {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What was being done.
    pub operation: Operation,
    /// With which object, prefix or place.
    pub name: String,
    /// The store's own words.
    pub detail: String,
    /// How long the store asks to be left alone before the next try.
    pub retry_after: Option<Duration>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure in the store's own words.
    #[must_use]
    pub fn new(
        kind: ErrorKind,
        operation: Operation,
        name: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { kind, operation, name, detail, retry_after: None, source: None }
    }

    /// A store that was opened for reading only changes nothing.
    #[must_use]
    pub fn read_only(operation: Operation, name: &str) -> Self {
        Self::new(ErrorKind::PermissionDenied, operation, name, "it was opened for reading only")
    }

    /// The same failure of a store that asks for a pause.
    #[must_use]
    pub fn retry_after(mut self, pause: Option<Duration>) -> Self {
        self.retry_after = pause;
        self
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Whether another try may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.name, self.detail)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = match error.kind {
            ErrorKind::NotFound => Reason::ObjectMissing,
            ErrorKind::Truncated => Reason::RepositoryDamaged,
            ErrorKind::Full => Reason::StorageFull,
            ErrorKind::PermissionDenied => Reason::StoragePermissionDenied,
            ErrorKind::Unavailable => Reason::StorageUnavailable,
            ErrorKind::Silent => Reason::Stalled,
            ErrorKind::Unsuitable => Reason::StorageUnsuitable,
            ErrorKind::Misconfigured => Reason::InvalidSpec,
            ErrorKind::Misuse => Reason::Internal,
        };
        let message = match error.kind {
            ErrorKind::Full => format!("no room is left: {error}"),
            _ => error.to_string(),
        };
        Self::new(reason, message)
    }
}
