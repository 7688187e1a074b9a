//! Blocks into packs, packs into the store.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::block::{BlockAddress, BlockSlot};
use super::shared::Shared;
use crate::buffers::Buffers;
use crate::envelope::{Kind, ObjectSeal};
use crate::keyring::ChunkId;
use crate::names::PartName;
use crate::pack::{FinishedPack, OpenPack, PackEntry};
use crate::{Error, Result};

/// Finished packs that are not durable yet. With the one that is being filled they are the
/// largest part of a writer's memory: 3 × 21 MiB, or 5 × 21 MiB where a network lies before
/// the store. Two keep a disk busy. A pack on its way to a bucket takes longer to be said
/// durable than to be sent, so with two a line of a gigabit stands idle for a quarter of the time
/// (`docs/benchmarks.md`, "A long line").
pub(super) const fn packs_under_way(network: bool) -> usize {
    if network { 4 } else { 2 }
}

/// A block that was compressed, or did not get smaller by it.
#[derive(Debug)]
pub(super) struct PackableBlock {
    pub(super) content: Vec<u8>,
    pub(super) zstd: bool,
    pub(super) plain: u32,
    pub(super) chunks: Vec<(ChunkId, u32)>,
    pub(super) slot: Arc<BlockSlot>,
}

/// Fills packs and hands them to the store.
#[derive(Debug)]
pub(super) struct Packer {
    session: Arc<str>,
    next: u32,
    open: Option<(u32, OpenPack)>,
    under_way: Arc<Semaphore>,
    pub(super) uploads: TaskTracker,
    runtime: Handle,
    buffers: Buffers,
}

impl Packer {
    /// `most` packs are under way at once.
    pub(super) fn new(session: Arc<str>, runtime: Handle, most: usize) -> Self {
        Self {
            session,
            next: 0,
            open: None,
            under_way: Arc::new(Semaphore::new(most)),
            uploads: TaskTracker::new(),
            runtime,
            buffers: Buffers::new(1 + most),
        }
    }

    /// Adds blocks behind each other. Waits while too many packs are under way,
    /// so it must not be called on a thread of the runtime.
    pub(super) fn push(&mut self, shared: &Arc<Shared>, blocks: &[PackableBlock]) -> Result<()> {
        for block in blocks {
            let (index, pack) = match &mut self.open {
                Some(open) => open,
                None => {
                    let name = PartName::new(Arc::clone(&self.session), self.next);
                    self.next += 1;
                    let inner = &shared.inner;
                    let seal = ObjectSeal::fresh(
                        &inner.keys,
                        &*inner.environment,
                        Kind::Pack,
                        name.pack_object(),
                    )?;
                    let index = shared.lock(&shared.packs).add_own(name.clone());
                    let pack = OpenPack::new(&inner.keys, name, seal, self.buffers.take());
                    self.open.insert((index, pack))
                }
            };
            let number = pack.push(&block.content, block.zstd, &block.chunks)?;
            let address = BlockAddress { pack: *index, block: number, plain: block.plain };
            block.slot.settle(address);
            if pack.is_full() {
                self.finish_open(shared, false)?;
            }
        }
        Ok(())
    }

    /// Closes the pack that is being filled and sends it off.
    pub(super) fn finish_open(&mut self, shared: &Arc<Shared>, last: bool) -> Result<()> {
        let Some((index, pack)) = self.open.take() else { return Ok(()) };
        let pack = pack.finish(last)?;
        let permit = self
            .runtime
            .block_on(shared.unless_stopped(Arc::clone(&self.under_way).acquire_owned()))?
            .map_err(|_| Error::Cancelled)?;
        let shared = Arc::clone(shared);
        let FinishedPack { entry, object, hooks } = pack;
        let object = self.buffers.lend(object);
        self.uploads.spawn_on(
            async move {
                if let Err(error) = upload(&shared, index, entry, object, hooks).await {
                    shared.fail(error);
                }
                drop(permit);
            },
            &self.runtime,
        );
        Ok(())
    }
}

async fn upload(
    shared: &Arc<Shared>,
    index: u32,
    entry: PackEntry,
    object: Bytes,
    hooks: Vec<u64>,
) -> Result<()> {
    let (name, size) = (entry.name.pack_object(), object.len() as u64);
    let created = shared.unless_stopped(shared.inner.create(&name, object)).await??;
    if !created {
        return Err(Error::System(format!("{name} exists already")));
    }
    shared.totals.add_stored(size);
    shared.lock(&shared.packs).settle_own(index, entry);
    shared.hooks.add_own(shared, index, &hooks);
    Ok(())
}
