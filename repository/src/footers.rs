//! Footers of packs, read once and kept within a bound in bytes. One cache
//! serves all streams of all snapshots of an open repository.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::blocks::PackBlocks;
use crate::moves::{Home, Moves};
use crate::names::PartName;
use crate::pack::{Footer, PackEntry};
use crate::repository::Inner;
use crate::{Error, Result};

/// Bytes of footers that are kept: about a hundred packs', or 6 GB of a dump.
pub(crate) const FOOTER_CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of block tables alone that are kept: about a thousand packs'.
pub(crate) const BLOCK_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// What an entry weighs besides its content.
const ENTRY_BYTES: usize = 256;

/// Footers that were read.
pub(crate) struct Footers {
    whole: Cache<PartName, Arc<Footer>>,
    blocks: Cache<PartName, Arc<PackBlocks>>,
}

impl fmt::Debug for Footers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Footers")
    }
}

impl Footers {
    pub(crate) fn new() -> Self {
        Self { whole: Cache::new(FOOTER_CACHE_BYTES), blocks: Cache::new(BLOCK_CACHE_BYTES) }
    }

    /// Blocks and chunks of a pack: one range read, unless they are known.
    pub(crate) async fn whole(&self, inner: &Inner, entry: &PackEntry) -> Result<Arc<Footer>> {
        let weigh = |footer: &Arc<Footer>| footer.weight() + ENTRY_BYTES;
        let load = || async { read_footer(inner, entry).await.map(Arc::new) };
        self.whole.get(&entry.name, weigh, load).await
    }

    /// Where the blocks of a pack are: one small range read, unless they are known.
    pub(crate) async fn blocks(
        &self,
        inner: &Arc<Inner>,
        entry: &PackEntry,
    ) -> Result<Arc<PackBlocks>> {
        let weigh = |blocks: &Arc<PackBlocks>| blocks.weight() + ENTRY_BYTES;
        self.blocks.get(&entry.name, weigh, || locate(inner, entry)).await
    }

    /// Where its blocks were is not true any more.
    pub(crate) fn forget(&self, entry: &PackEntry) {
        self.blocks.forget(&entry.name);
    }
}

/// Looks into the pack itself; if it is gone, or is not what it was, where its blocks were
/// moved to. A writer that stood still may bring back another pack of a name that is gone.
async fn locate(inner: &Arc<Inner>, entry: &PackEntry) -> Result<Arc<PackBlocks>> {
    let gone = match own(inner, entry).await {
        Err(error @ (Error::Missing(_) | Error::Damaged { .. })) => error,
        located => return located,
    };
    let homes = Homes::open(inner, entry, &inner.moves.get()).await?;
    let moved_on = homes.located.is_empty() || matches!(homes.failed, Some(Error::Missing(_)));
    let homes = match moved_on {
        false => homes,
        // It may have been moved, or moved again, since that was read.
        true => Homes::open(inner, entry, &*inner.read_moves().await?).await?,
    };
    if homes.located.is_empty() {
        return Err(homes.failed.unwrap_or(gone));
    }
    Ok(Arc::new(PackBlocks::moved(entry.blocks, &homes.located)))
}

/// Blocks and chunks of the pack that just this entry means, read afresh.
pub(crate) async fn read_footer(inner: &Inner, entry: &PackEntry) -> Result<Footer> {
    let start = u64::from(entry.block_table_at);
    let bytes = u64::from(entry.block_table_bytes) + u64::from(entry.chunk_table_bytes);
    let name = entry.name.pack_object();
    let footer = inner.store.get_range(&name, start..start + bytes).await.map_err(Error::needed)?;
    entry.open_footer(&inner.keys, &footer)
}

/// Where the blocks are in the pack that just this entry means, read afresh.
pub(crate) async fn own(inner: &Inner, entry: &PackEntry) -> Result<Arc<PackBlocks>> {
    let start = u64::from(entry.block_table_at);
    let end = start + u64::from(entry.block_table_bytes);
    let name = entry.name.pack_object();
    let frame = inner.store.get_range(&name, start..end).await.map_err(Error::needed)?;
    let blocks = entry.open_block_table(&inner.keys, &frame)?;
    Ok(Arc::new(PackBlocks::own(entry, &blocks)))
}

/// The packs that a pack's blocks were moved to.
struct Homes {
    located: Vec<(Home, Arc<PackBlocks>)>,
    /// Why one of them does not open: others may have the same blocks.
    failed: Option<Error>,
}

impl Homes {
    async fn open(inner: &Inner, entry: &PackEntry, moves: &Moves) -> Result<Self> {
        let mut homes = Self { located: Vec::new(), failed: None };
        for home in moves.of(entry) {
            match own(inner, &home.entry).await {
                Ok(blocks) => homes.located.push((home.clone(), blocks)),
                Err(error @ (Error::Missing(_) | Error::Damaged { .. })) => {
                    homes.failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(homes)
    }
}

/// Values that are loaded once, the longest unused ones forgotten first.
struct Cache<K, V> {
    budget: usize,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    slots: HashMap<K, Slot<V>>,
    bytes: usize,
    tick: u64,
}

struct Slot<V> {
    cell: Arc<OnceCell<V>>,
    bytes: usize,
    used: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    fn new(budget: usize) -> Self {
        Self { budget, state: Mutex::new(State { slots: HashMap::new(), bytes: 0, tick: 0 }) }
    }

    /// The value of `key`. Who asks while another loads it waits for that.
    async fn get<L, F>(&self, key: &K, weigh: impl Fn(&V) -> usize, load: L) -> Result<V>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<V>>,
    {
        let cell = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.tick += 1;
            let tick = state.tick;
            let slot = state.slots.entry(key.clone()).or_insert_with(|| Slot {
                cell: Arc::new(OnceCell::new()),
                bytes: 0,
                used: tick,
            });
            slot.used = tick;
            Arc::clone(&slot.cell)
        };
        let loaded = cell.get_or_try_init(load).await.cloned();
        self.account(key, loaded.as_ref().ok().map(weigh));
        loaded
    }

    fn forget(&self, key: &K) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = state.slots.remove(key) {
            state.bytes -= slot.bytes;
        }
    }

    /// Books the weight of a value, and forgets others until all fit. A value
    /// that could not be loaded is not kept.
    fn account(&self, key: &K, weight: Option<usize>) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let Some(weight) = weight else {
            if state.slots.get(key).is_some_and(|slot| slot.bytes == 0) {
                state.slots.remove(key);
            }
            return;
        };
        let Some(slot) = state.slots.get_mut(key).filter(|slot| slot.bytes == 0) else { return };
        slot.bytes = weight;
        state.bytes += weight;
        while state.bytes > self.budget {
            // Few slots: a scan costs less than a list that is kept in order.
            let oldest = state
                .slots
                .iter()
                .filter(|(_, slot)| slot.bytes > 0)
                .min_by_key(|(_, slot)| slot.used)
                .map(|(key, slot)| (key.clone(), slot.bytes));
            let Some((oldest, bytes)) = oldest else { return };
            state.slots.remove(&oldest);
            state.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cache_loads_once_and_stays_within_its_budget() {
        let cache: Cache<u32, u32> = Cache::new(100);
        let loads = std::sync::atomic::AtomicU32::new(0);
        for key in [1, 1, 2, 3, 1, 4, 2] {
            let load = || async {
                loads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(key * 10)
            };
            assert_eq!(cache.get(&key, |_| 33, load).await.unwrap(), key * 10);
            assert!(cache.state.lock().unwrap().bytes <= 100);
        }
        assert!(cache.get(&9, |_| 1, || async { Err(Error::Cancelled) }).await.is_err());
        assert_eq!(cache.get(&9, |_| 1, || async { Ok(5) }).await.unwrap(), 5);
        // 1, 2, 3 (2 is forgotten), 1 again known, 4 (3 is forgotten), 2 again.
        assert_eq!(loads.load(std::sync::atomic::Ordering::Relaxed), 5);
    }
}
