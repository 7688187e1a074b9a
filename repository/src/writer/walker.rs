//! Walks along the predecessor's recipe of a stream and tells which chunks stood
//! where, ahead of the writer that looks for them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::shared::Shared;
use crate::keyring::ChunkId;
use crate::moves::Home;
use crate::pack::{BlockInfo, Footer, PackEntry};
use crate::recipe::{End, Run, RunReader};
use crate::repository::Inner;
use crate::snapshot::Snapshot;
use crate::spans::{Span, spans};
use crate::tables::{StreamEntry, Usage, UsedPack};
use crate::wire::Malformed;
use crate::{Error, Result};

/// Chunks of a batch.
pub(super) const BATCH_CHUNKS: usize = 512;
/// Batches that the walk is ahead: 32 MiB of the stream.
pub(super) const BATCHES_AHEAD: usize = 8;

/// A block of a pack whose blocks are not known: far from both ends of its range,
/// so that steps from it stay within.
const SOMEWHERE: u32 = 1 << 31;

/// A chunk of the predecessor.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) id: ChunkId,
    pub(super) length: u32,
    /// Where it begins in the predecessor's stream.
    pub(super) position: u64,
    /// The pack, as [`OldStream::pack`] counts.
    pub(super) pack: u32,
    pub(super) block: u32,
    pub(super) offset: u32,
    /// The block's plain length.
    pub(super) plain: u32,
    /// The predecessor used little of the block.
    pub(super) sparse: bool,
}

/// The predecessor's stream of the same name.
#[derive(Debug)]
pub(super) struct OldStream {
    pub(super) inner: Arc<Inner>,
    pub(super) snapshot: Snapshot,
    packs: Arc<Vec<UsedPack>>,
    /// Where blocks of packs of the table were moved to, by the pack's index.
    moved: HashMap<u32, Vec<MovedTo>>,
    /// The packs that they were moved to: their indices follow those of the table.
    homes: Vec<Arc<PackEntry>>,
    pub(super) entry: StreamEntry,
}

/// A pack that blocks were moved to.
#[derive(Debug)]
struct MovedTo {
    home: Home,
    index: u32,
}

impl OldStream {
    /// Finds the stream in a snapshot; `None` where there is none or it cannot be
    /// read.
    pub(super) async fn of(snapshot: &Snapshot, shared: &Shared, name: &str) -> Option<Arc<Self>> {
        let found = async {
            let entry = match snapshot.entry(name).await {
                Err(Error::StreamNotFound { .. }) => return Ok(None),
                entry => entry?,
            };
            let packs = snapshot.packs().await?;
            let (mut moved, mut homes) = (HashMap::<_, Vec<_>>::new(), Vec::new());
            for (pack, n) in packs.iter().zip(0..) {
                for home in shared.homes(&pack.entry) {
                    let index = (packs.len() + homes.len()) as u32;
                    homes.push(Arc::clone(&home.entry));
                    moved.entry(n).or_default().push(MovedTo { home: home.clone(), index });
                }
            }
            let (inner, snapshot) = (Arc::clone(&shared.inner), snapshot.clone());
            Ok(Some(Self { inner, snapshot, packs, moved, homes, entry }))
        };
        match found.await {
            Ok(old) => old.map(Arc::new),
            Err(error) => {
                shared.pass_over(&error, name);
                None
            }
        }
    }

    /// The pack of an index: of the predecessor's table, or one that blocks of it
    /// were moved to.
    pub(super) fn pack(&self, index: u32) -> Option<&Arc<PackEntry>> {
        match self.packs.get(index as usize) {
            Some(pack) => Some(&pack.entry),
            None => self.homes.get(index as usize - self.packs.len()),
        }
    }
}

/// Begins to walk at the chunk that covers `from`. The walk ends with the
/// stream, or when nobody listens any more.
pub(super) fn start(
    old: &Arc<OldStream>,
    shared: &Arc<Shared>,
    from: u64,
) -> mpsc::Receiver<Vec<Expected>> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let (old, shared) = (Arc::clone(old), Arc::clone(shared));
    tokio::spawn(async move {
        let walk = Walk {
            old: &old,
            shared: &shared,
            sender: &sender,
            batch: Vec::new(),
            lost: HashSet::new(),
        };
        // Whoever has stopped listening wants no more.
        let _: std::result::Result<(), Unheard> = tokio::select! { done = walk.run(from) => done, () = shared.stop.cancelled() => Ok(()) };
    });
    receiver
}

/// Packs that have the blocks of one that a recipe names: itself, or those that they
/// were moved to.
struct Source(Vec<Part>);

struct Part {
    pack: u32,
    home: Option<Home>,
    footer: Arc<Footer>,
}

impl Source {
    /// A block by the number that the recipe gives it: where it is, and its number there.
    fn block(&self, block: u32) -> Option<(&Part, u32, &BlockInfo)> {
        self.0.iter().find_map(|part| {
            let number = part.home.as_ref().map_or(Some(block), |home| home.place(block))?;
            Some((part, number, part.footer.blocks.get(number as usize)?))
        })
    }

    fn spans(&self, run: &Run) -> std::result::Result<(Vec<Span>, End), Malformed> {
        spans(run, |block| self.block(block).map(|(_, _, block)| block.plain))
    }

    /// Whether it was moved, perhaps without all blocks that the predecessor uses.
    fn is_elsewhere(&self) -> bool {
        self.0.iter().any(|part| part.home.is_some())
    }
}

/// Nobody listens.
struct Unheard;

struct Walk<'a> {
    old: &'a OldStream,
    shared: &'a Shared,
    sender: &'a mpsc::Sender<Vec<Expected>>,
    batch: Vec<Expected>,
    /// Packs whose footer cannot be read: nothing of them is known.
    lost: HashSet<u32>,
}

impl Walk<'_> {
    async fn run(mut self, from: u64) -> std::result::Result<(), Unheard> {
        let mut position = 0;
        for segment in &self.old.entry.segments {
            let end = position + segment.covers;
            if end > from {
                match self.segment(&segment.place, position, from).await {
                    Ok(heard) => heard?,
                    // The chunks of this segment are stored again.
                    Err(error) => self.shared.pass_over(&error, &self.old.entry.name),
                }
            }
            position = end;
        }
        self.send().await
    }

    async fn segment(
        &mut self,
        place: &crate::piece::Place,
        mut position: u64,
        from: u64,
    ) -> Result<std::result::Result<(), Unheard>> {
        let old = self.old;
        let runs = old.inner.piece(place, old.snapshot.metas()).await?;
        let malformed = |error: Malformed| {
            Error::damaged(format!("the recipe of {}", old.entry.name), error.to_string())
        };
        let mut reader = RunReader::new(&runs);
        let mut end = End::default();
        while let Some(run) = reader.next(end).map_err(malformed)? {
            let pack = old.packs.get(run.pack as usize).ok_or_else(|| {
                Error::damaged(format!("the recipe of {}", old.entry.name), "no such pack")
            })?;
            let source = self.source(run.pack, &pack.entry).await?;
            let parts = source.and_then(|source| match source.spans(&run) {
                Err(_) if source.is_elsewhere() => None,
                parts => Some(parts.map(|parts| (source, parts))),
            });
            let Some(parts) = parts else {
                // Where it ended is not known. What follows stands in the same pack,
                // wherever in it, or says where in another one it begins.
                end = End { pack: run.pack, block: SOMEWHERE, offset: 0 };
                position += run.length;
                continue;
            };
            let (source, (parts, run_end)) = parts.map_err(malformed)?;
            end = run_end;
            for span in parts {
                let next = position + u64::from(span.length);
                if next > from {
                    self.chunks(pack, &source, span, position);
                    if self.batch.len() >= BATCH_CHUNKS && self.send().await.is_err() {
                        return Ok(Err(Unheard));
                    }
                }
                position = next;
            }
        }
        Ok(Ok(()))
    }

    /// Where the chunks of a pack may be taken from.
    async fn source(&mut self, index: u32, entry: &PackEntry) -> Result<Option<Source>> {
        let Some(moved) = self.old.moved.get(&index) else {
            let own = if self.shared.is_absent(&entry.name) {
                None
            } else {
                self.footer(index, entry).await?
            };
            return Ok(own.map(|footer| Source(vec![Part { pack: index, home: None, footer }])));
        };
        let mut parts = Vec::with_capacity(moved.len());
        for MovedTo { home, index } in moved {
            if let Some(footer) = self.footer(*index, &home.entry).await? {
                parts.push(Part { pack: *index, home: Some(home.clone()), footer });
            }
        }
        Ok(Some(Source(parts)).filter(|source| !source.0.is_empty()))
    }

    /// The footer of a pack, unless it is lost.
    async fn footer(&mut self, index: u32, entry: &PackEntry) -> Result<Option<Arc<Footer>>> {
        if self.lost.contains(&index) {
            return Ok(None);
        }
        match self.old.inner.footers.whole(&self.old.inner, entry).await {
            Ok(footer) => Ok(Some(footer)),
            Err(error @ Error::Storage(_)) => Err(error),
            Err(error) => {
                self.shared.pass_over(&error, &self.old.entry.name);
                self.lost.insert(index);
                Ok(None)
            }
        }
    }

    /// The whole chunks within a part of a block.
    fn chunks(&mut self, used: &UsedPack, source: &Source, span: Span, start: u64) {
        let Some((part, number, block)) = source.block(span.block) else { return };
        let sparse = used.usage(span.block) == Usage::Sparse;
        let mut offset = 0;
        for n in block.first_chunk..block.first_chunk + block.chunks {
            let Some((id, length)) = part.footer.chunks.get(n as usize) else { return };
            if offset >= span.offset && offset + length <= span.offset + span.length {
                self.batch.push(Expected {
                    id,
                    length,
                    position: start + u64::from(offset - span.offset),
                    pack: part.pack,
                    block: number,
                    offset,
                    plain: block.plain,
                    sparse,
                });
            }
            offset += length;
        }
    }

    async fn send(&mut self) -> std::result::Result<(), Unheard> {
        let batch = std::mem::take(&mut self.batch);
        self.sender.send(batch).await.map_err(|_| Unheard)
    }
}
