//! Named byte streams between an engine and whatever keeps them.
//!
//! A stream's name is UTF-8 of at most 1,024 bytes, unique within a backup. It
//! is a name and not a path: engines encode what comes from a server
//! (percent-encoding of everything but letters, digits, `-`, `_` and `.`) and
//! separate their own parts with `/`. The same table has the same name in
//! every backup of a series: that is how its known chunks are found.

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_contract::{Failure, Progress};

/// What a stream is like: how it is cut into the pieces that are found again in later backups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Bytes, of which any may be inserted or taken away.
    #[default]
    Bytes,
    /// Pages of 8 KiB that are changed where they are: a file of tables of PostgreSQL.
    Pages,
}

/// Takes the streams of one backup.
#[async_trait]
pub trait BackupSink: Send + Sync {
    /// Begins a stream. Several may be open at the same time.
    ///
    /// # Errors
    /// When the name was used before in this backup, or nothing can be written.
    async fn open(&self, name: &str, shape: Shape) -> Result<Box<dyn StreamWriter>, Failure>;

    /// Takes back every finished stream whose name begins with `prefix`: what
    /// they belong to has failed, and a backup holds nothing unfinished.
    ///
    /// # Errors
    /// When a stream with that prefix is still open.
    async fn discard(&self, prefix: &str) -> Result<(), Failure>;
}

/// One open stream of a backup. Dropped without [`StreamWriter::finish`] it
/// leaves no stream behind.
#[async_trait]
pub trait StreamWriter: Send {
    /// Appends bytes; waits while what comes after is busy.
    ///
    /// # Errors
    /// When they cannot be kept; the whole backup has failed then.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure>;

    /// Ends the stream: from now on it is part of the backup.
    ///
    /// # Errors
    /// When its last bytes cannot be kept; the whole backup has failed then.
    async fn finish(self: Box<Self>) -> Result<(), Failure>;
}

/// Gives back the streams of one backup.
#[async_trait]
pub trait BackupSource: Send + Sync {
    /// Opens a stream from its beginning. Several may be open at the same time.
    ///
    /// # Errors
    /// `StreamNotFound`, or what the repository says.
    async fn open(&self, name: &str) -> Result<Box<dyn StreamReader>, Failure>;

    /// Names and lengths in bytes of the streams that begin with `prefix`, sorted by name.
    ///
    /// # Errors
    /// What the repository says.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Failure>;
}

/// One open stream of a restore. Every byte that it gives was verified.
#[async_trait]
pub trait StreamReader: Send {
    /// The next bytes, in order; `None` at the end.
    ///
    /// # Errors
    /// What the repository says; nothing that follows can be used then.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure>;
}

/// Hears how far an engine has come. Called often; must not block.
pub trait ProgressSink: Send + Sync {
    /// Totals and counts as they stand now.
    fn update(&self, progress: Progress);
}
