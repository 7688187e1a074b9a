//! Checking a repository: is everything there, whole, and what does a damage touch.
//!
//! `gather` reads every head and learns which packs and meta objects are needed;
//! `objects` looks at everything that is listed; `packs` looks at each needed pack
//! once, however many snapshots need it; `recipes` walks every stream and says what
//! the damages touch.
//!
//! A pack whose blocks were moved is gone, and nothing is wrong with that: what counts
//! are the packs that hold them now.
//!
//! Memory: about 300 bytes a pack that is needed (20 MB for a tebibyte of packs) and
//! 400 a snapshot; one head with its tables (150 bytes a pack and two bits a block);
//! [`packs::PACKS_AT_ONCE`] packs of at most 32 MiB; [`metas::KEPT_BYTES`] of meta
//! objects; [`packs::KEPT_BLOCK_BYTES`] of lengths of blocks, and the caches of
//! footers for the rest; a problem for each damaged object, and
//! [`report::LISTED_NAMES`] names that they touch.

mod gather;
mod logs;
mod metas;
mod objects;
mod packs;
mod recipes;
mod report;
mod sample;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub use report::{
    CheckLevel, CheckOptions, CheckProgress, CheckReport, Loss, Note, Problem, Touched,
};
pub use sample::Sample;

use crate::block_set::BlockSet;
use crate::moves::Moves;
use crate::names::PartName;
use crate::pack::PackEntry;
use crate::repository::{Inner, Repository};
use crate::{Error, Result, SnapshotId};

/// A pack that a snapshot needs, and what is known of it.
#[derive(Debug)]
struct NeededPack {
    entry: PackEntry,
    /// Whether every snapshot that needs it has come since [`CheckOptions::new_since`].
    is_new: bool,
    /// Its size by the listing.
    listed: Option<u64>,
    /// What is wrong with it.
    damage: Option<PackDamage>,
    /// Plain lengths of its blocks, if they were read and are kept.
    blocks: Option<Box<[u32]>>,
    /// The blocks that are in other packs, if it is gone itself.
    moved: Option<BlockSet>,
}

/// What is wrong with a pack.
#[derive(Debug)]
struct PackDamage {
    /// The problem's index in the report.
    problem: usize,
    /// The blocks that cannot be read; all where not even that is known.
    blocks: BadBlocks,
}

/// Blocks of a pack that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BadBlocks {
    All,
    Some(BTreeSet<u32>),
}

/// A check at work.
struct Check<'a> {
    repository: &'a Repository,
    inner: &'a Arc<Inner>,
    options: &'a CheckOptions,
    report: CheckReport,
    /// Snapshots whose heads can be read, with the digest of the stored head.
    snapshots: BTreeMap<SnapshotId, String>,
    packs: Vec<NeededPack>,
    /// Where packs of this name are in `packs`: several if heads disagree.
    by_name: HashMap<PartName, Vec<u32>>,
    /// Bytes of the lengths of blocks that are kept.
    kept_block_bytes: usize,
    /// Meta objects that are needed.
    metas: HashSet<PartName>,
    /// Where blocks were moved to.
    moves: Arc<Moves>,
}

impl Repository {
    /// Checks everything that is there. Each pack is read once, however many
    /// snapshots need it.
    ///
    /// # Errors
    /// Only what the store says when it is not available, and `Interrupted`:
    /// damage is reported.
    pub async fn check(&self, options: impl Into<CheckOptions>) -> Result<CheckReport> {
        let mut options = options.into();
        // Also stops what runs on other threads when this is dropped.
        options.cancel = options.cancel.child_token();
        let _stop = options.cancel.clone().drop_guard();
        let cancelled = options.cancel.clone();
        tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(Error::Cancelled),
            report = self.checked(&options) => report,
        }
    }

    async fn checked(&self, options: &CheckOptions) -> Result<CheckReport> {
        let mut check = Check {
            repository: self,
            inner: &self.inner,
            options,
            report: CheckReport::default(),
            snapshots: BTreeMap::new(),
            packs: Vec::new(),
            by_name: HashMap::new(),
            kept_block_bytes: 0,
            metas: HashSet::new(),
            moves: self.inner.read_moves().await?,
        };
        check.gather().await?;
        check.look_at_objects().await?;
        check.look_at_logs().await?;
        check.look_at_packs().await?;
        check.walk_recipes().await?;
        Ok(check.report)
    }
}

/// Damage is reported; a store that does not answer ends the check.
fn unless_unavailable(error: Error) -> Result<Error> {
    match error {
        Error::Storage(_) | Error::Cancelled | Error::System(_) => Err(error),
        damage => Ok(damage),
    }
}
