//! Blocks that were moved to other packs, and where they are now
//! (`docs/format.md`, "Moved blocks").
//!
//! A repacking is a snapshot without streams, of a series of its own: its head
//! has the new packs in its table and says which blocks of which old packs stand
//! in them. Recipes go on naming the old ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dbbackup_storage::collect_listing;

use crate::block_set::BlockSet;
use crate::envelope::Tag;
use crate::head::{About, Head, parse_part_name};
use crate::names::{PartName, SNAPSHOTS, SnapshotId, series_prefix};
use crate::pack::{MAX_BLOCKS, PackEntry};
use crate::repository::{Inner, Repository};
use crate::snapshot::Snapshot;
use crate::tables::UsedPack;
use crate::wire::{Malformed, Reader, put_varint};
use crate::writer::inline_pack_pages;
use crate::{Error, Result};

/// The series of repackings: no caller's holds a NUL.
pub(crate) const MOVES_SERIES: &str = "\0moved";

/// Blocks of one pack that stand behind each other in another one, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// The pack that recipes name.
    pub(crate) pack: PartName,
    /// How many blocks it had.
    pub(crate) blocks: u32,
    /// The tag of its block table: no other pack of this name is meant.
    pub(crate) tag: Tag,
    /// Index of the pack in which they are now in the head's table.
    pub(crate) home: u32,
    /// Number of the first of them there.
    pub(crate) first: u32,
    /// Which blocks they are.
    pub(crate) carried: BlockSet,
}

impl Move {
    /// The number that a block which was carried has in its home.
    pub(crate) fn place(&self, block: u32) -> u32 {
        self.first.saturating_add(self.carried.rank(block))
    }
}

/// Codes the moves of a head; `session` gives the index of a session in its list.
pub(crate) fn encode_moves(
    moves: &[Move],
    session: impl Fn(&PartName) -> Result<u64>,
) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    put_varint(&mut out, moves.len() as u64);
    for moved in moves {
        put_varint(&mut out, session(&moved.pack)?);
        for number in [moved.pack.n, moved.blocks, moved.home, moved.first] {
            put_varint(&mut out, u64::from(number));
        }
        out.extend_from_slice(&moved.tag);
        out.extend_from_slice(&moved.carried.to_bytes(moved.blocks));
    }
    Ok(out)
}

/// Reads the moves of a head.
pub(crate) fn parse_moves(
    section: &[u8],
    sessions: &[Arc<str>],
) -> std::result::Result<Vec<Move>, Malformed> {
    let mut reader = Reader::new(section);
    // Each takes a byte at least.
    let count = reader.count(section.len())?;
    let mut moves = Vec::new();
    for _ in 0..count {
        let pack = parse_part_name(&mut reader, sessions)?;
        let blocks = reader.bounded(MAX_BLOCKS as u64)? as u32;
        let (home, first, tag) = (reader.small()?, reader.small()?, reader.array()?);
        let carried = BlockSet::from_bytes(reader.take((blocks as usize).div_ceil(8))?);
        if carried.iter().any(|block| block >= blocks) {
            return Err(Malformed("a block was moved that the pack did not have"));
        }
        if u64::from(first) + u64::from(carried.len()) > MAX_BLOCKS as u64 {
            return Err(Malformed("blocks were moved to where no pack has any"));
        }
        moves.push(Move { pack, blocks, tag, home, first, carried });
    }
    reader.end()?;
    Ok(moves)
}

/// How far a repacking is relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Everybody relies upon it.
    Counts,
    /// It was let go: its packs may be condemned as soon as its head is gone. Until then it
    /// is read from where nothing else is left.
    LetGo,
    /// Somebody has said that it is wrong: it is read last of all.
    WrittenOff,
}

impl Standing {
    const BEST_FIRST: [Self; 3] = [Self::Counts, Self::LetGo, Self::WrittenOff];
}

/// A pack in which moved blocks are.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) entry: Arc<PackEntry>,
    /// How the repacking stands that moved them.
    pub(crate) standing: Standing,
    tag: Tag,
    first: u32,
    carried: BlockSet,
}

impl Home {
    /// The blocks of the old pack that are here.
    pub(crate) fn carried(&self) -> impl Iterator<Item = u32> + '_ {
        self.carried.iter()
    }

    /// The number that block `n` of the old pack has here.
    pub(crate) fn place(&self, n: u32) -> Option<u32> {
        self.carried.contains(n).then(|| self.first.saturating_add(self.carried.rank(n)))
    }
}

/// Where the blocks of packs are now: about 250 bytes for a pack that was moved.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    homes: HashMap<PartName, Vec<Home>>,
}

impl Moves {
    /// Where blocks of this pack are besides in itself, what counts first; empty for most.
    pub(crate) fn of<'a>(&'a self, pack: &PackEntry) -> impl Iterator<Item = &'a Home> + use<'a> {
        let (homes, tag) = (self.homes.get(&pack.name), pack.block_table_tag);
        let of = move |standing| {
            let homes = homes.into_iter().flatten();
            homes.filter(move |home| home.tag == tag && home.standing == standing)
        };
        Standing::BEST_FIRST.into_iter().flat_map(of)
    }

    pub(crate) fn contains(&self, pack: &PartName) -> bool {
        self.homes.contains_key(pack)
    }

    /// How many packs blocks were moved out of.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.homes.len()
    }

    async fn add(&mut self, snapshot: &Snapshot, standing: Standing) -> Result<()> {
        let table = snapshot.packs().await?;
        let entries: Vec<_> = table.iter().map(|used| Arc::new(used.entry.clone())).collect();
        for moved in snapshot.moves() {
            let entry = entries.get(moved.home as usize).ok_or_else(|| {
                Error::damaged(snapshot.id().head_name(), "it moves blocks to a pack that is none")
            })?;
            let home = Home {
                entry: Arc::clone(entry),
                standing,
                tag: moved.tag,
                first: moved.first,
                carried: moved.carried.clone(),
            };
            self.homes.entry(moved.pack.clone()).or_default().push(home);
        }
        Ok(())
    }
}

/// What is known of moved blocks. Nothing is read before a pack is missed.
#[derive(Debug, Default)]
pub(crate) struct KnownMoves(Mutex<Arc<Moves>>);

impl KnownMoves {
    pub(crate) fn get(&self) -> Arc<Moves> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// Reads every repacking that is there: one listing, and a head for each. One that
    /// cannot be read hides what it moved, and no more.
    pub(crate) async fn read_moves(self: &Arc<Self>) -> Result<Arc<Moves>> {
        let repository = Repository { inner: Arc::clone(self) };
        let prefix = format!("{SNAPSHOTS}{}", series_prefix(&self.keys, MOVES_SERIES));
        let mut moves = Moves::default();
        for object in collect_listing(self.store.list(&prefix)).await? {
            let name = object.name.strip_prefix(SNAPSHOTS).unwrap_or_default();
            let Ok(id) = SnapshotId::parse(name) else { continue };
            let read = async {
                let Some(snapshot) = repository.head_at(&id).await? else { return Ok(()) };
                let is_let_go = self.is_hidden(&id).await?;
                moves.add(&snapshot, self.standing(&id, is_let_go).await?).await
            };
            match read.await {
                Ok(()) => {}
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(error) => tracing::warn!(%error, snapshot = %id, "moved blocks are not found"),
            }
        }
        let moves = Arc::new(moves);
        *self.moves.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&moves);
        Ok(moves)
    }

    /// How a repacking stands whose head is there.
    pub(crate) async fn standing(&self, id: &SnapshotId, is_let_go: bool) -> Result<Standing> {
        Ok(match (self.is_written_off(id).await?, is_let_go) {
            (true, _) => Standing::WrittenOff,
            (false, true) => Standing::LetGo,
            (false, false) => Standing::Counts,
        })
    }

    /// Whether a session repacks.
    pub(crate) fn is_repacking(&self, id: &SnapshotId) -> bool {
        id.is_of(&self.keys, MOVES_SERIES)
    }
}

impl Head {
    /// The head of a repacking.
    ///
    /// # Errors
    /// What the table of packs cannot hold.
    pub(crate) fn of_repacking(about: About, table: &[UsedPack], moves: Vec<Move>) -> Result<Self> {
        let mut sessions = vec![Arc::from(about.session.as_str())];
        let pack_pages = inline_pack_pages(table, &mut sessions)?;
        for moved in &moves {
            if !sessions.contains(&moved.pack.session) {
                sessions.push(Arc::clone(&moved.pack.session));
            }
        }
        Ok(Self { sessions, pack_pages, moves, ..Self::of(about) })
    }

    /// Whether it is a repacking's, and no backup's.
    pub(crate) fn is_repacking(&self) -> bool {
        self.about.series == MOVES_SERIES
    }
}
