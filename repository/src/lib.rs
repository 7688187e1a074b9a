//! The repository: a deduplicating, compressing, encrypting store of named byte
//! streams. `docs/format.md` describes every byte that it keeps.
//!
//! [`Repository::create_or_open`] gives a repository; [`Repository::begin`] a
//! [`SnapshotWriter`] whose [`StreamWriter`]s take bytes from several tasks at
//! once; [`SnapshotWriter::commit`] the [`Snapshot`], whose streams a
//! [`StreamReader`] gives back. Nothing is a snapshot before its commit, and
//! everything after it can be restored.

mod access;
mod block_set;
mod blocks;
mod buffers;
mod check;
mod chunker;
mod collector;
mod config;
mod copier;
mod decisions;
mod envelope;
mod environment;
mod error;
mod footers;
mod guards;
mod head;
mod hooks;
mod key_slot;
mod keyring;
mod ledger;
mod logs;
mod moves;
mod names;
mod oldest;
mod open;
mod pack;
mod padme;
mod piece;
mod reader;
mod recipe;
mod repository;
mod rotation;
mod session;
mod slot_listing;
mod snapshot;
mod spans;
mod stretching;
mod tables;
#[cfg(test)]
mod tests;
mod unlock;
mod usage;
mod wire;
mod writer;
mod written_off;

pub use access::{Encryption, KeySource};
pub use check::{
    CheckLevel, CheckOptions, CheckProgress, CheckReport, Loss, Note, Problem, Sample, Touched,
};
pub use chunker::Cutting;
pub use collector::{Blocker, CollectOptions, CollectReport, RepackOptions};
pub use copier::{Copied, CopyError, CopyOptions, CopyOutcome, copy, copy_run_id};
pub use decisions::ForgetReason;
pub use environment::{Environment, SystemEnvironment};
pub use error::{Error, Instead, Result};
pub use head::{About, CopiedFrom, MAX_REPORT_BYTES, PredecessorRef, TombstoneReason};
pub use key_slot::{MAX_KEY_NAME_BYTES, SlotId, SlotLabel};
pub use keyring::RepositoryId;
pub use ledger::{LedgerEntry, LedgerKey};
pub use logs::{LogId, LogPart, LogReader, LogWriter, MAX_PART_BYTES, PartNumbers};
pub use names::{MAX_STREAM_NAME_BYTES, SnapshotId};
pub use open::{OpenOptions, Opened, OpenedSlot};
pub use reader::StreamReader;
pub use repository::Repository;
pub use rotation::{AddedKey, Rotation};
pub use session::{ReadSession, RunState};
pub use slot_listing::{KeySlot, SlotState};
pub use snapshot::{Listed, Snapshot, SnapshotList, StreamInfo};
pub use stretching::{Kdf, Stretching};
pub use usage::Usage;
pub use writer::{
    Begun, CommitFacts, CommitInfo, DEFAULT_COMPRESSION_LEVEL, SessionOptions, SnapshotWriter,
    StreamSummary, StreamWriter, writer_memory_bytes,
};
pub use written_off::{MAX_WRITE_OFF_BYTES, WriteOff};

/// SHA-256 of `bytes`, as hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&keyring::sha256(bytes))
}
