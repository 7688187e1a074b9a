//! The custom format of `pg_dump`, taken apart and joined again as it streams.
//!
//! [`Splitter`] takes the bytes of an archive in pieces of any size and gives
//! them back sorted by what they belong to: a prelude (header and table of
//! contents, without the date) and one stream for each block of data. [`join`]
//! is its inverse, byte for byte. Formats 1.14 (PostgreSQL 12–15), 1.15 (16)
//! and 1.16 (17, 18) are known; any other is refused.
//!
//! Source of the format: `src/bin/pg_dump/pg_backup_archiver.c` and
//! `pg_backup_custom.c`.

mod block;
mod contents;
mod entries;
pub(crate) mod join;
mod layout;
mod named_roles;
mod prelude;
mod restore_order;
mod role_changes;
mod split;
mod stream_names;
mod wire;
mod words;

pub(crate) use contents::{TocEntry, TocReader};
pub(crate) use layout::{BlockKind, BlockLayout, Layout, Needs};
pub(crate) use restore_order::{PHASES, Phase, RestoreOrder, RestoreOrderReader};
pub(crate) use role_changes::{NewOwner, RoleChanges, RoleRewriter};
pub(crate) use split::{Piece, Splitter, Target};
pub use stream_names::database_of_stream;
pub(crate) use stream_names::{database_prefix, decoded_path, encoded_path};

use dbbackup_contract::{Failure, Reason};

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It is of a kind that we do not read.
    #[error("the archive is {0}")]
    Unsupported(String),
    /// It has something larger than we keep in memory.
    #[error("the archive has {0}")]
    TooLarge(String),
    /// It holds what `pg_dump` never writes.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// It ends too early.
    #[error("the archive is cut: {0}")]
    Cut(String),
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let message = error.to_string();
        match error {
            ArchiveError::Unsupported(_) => Failure::new(Reason::ArchiveUnsupported, message),
            ArchiveError::TooLarge(_) => Failure::new(Reason::ArchiveUnsupported, message)
                .with_hint("Leave the database out, or split it: the limits bound the memory."),
            ArchiveError::Damaged(_) | ArchiveError::Cut(_) => {
                Failure::new(Reason::ArchiveDamaged, message)
            }
        }
    }
}
