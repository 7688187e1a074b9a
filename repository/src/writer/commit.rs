//! The commit: recipes and tables first, the head last.

use std::sync::Arc;

use dbbackup_contract::{ByteCounts, MadeBy};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::SnapshotWriter;
use super::shared::Shared;
use super::workers::Job;
use crate::head::{About, Head, MAX_HEAD_BYTES, PackPage, PredecessorRef, StreamPage};
use crate::names::SnapshotId;
use crate::piece::{Place, encode_piece};
use crate::snapshot::Snapshot;
use crate::tables::{
    MAX_PACK_TABLE_BYTES, MAX_STREAM_TABLE_BYTES, PAGE_BYTES, StreamEntry, UsedPack, put_pack,
    put_stream,
};
use crate::{Error, Result};

/// Tables of this size and less stand in the head.
const INLINE_TABLE_BYTES: usize = 256 * 1024;

/// What the caller says of a snapshot when it is committed.
pub struct CommitInfo {
    /// What kind of data it holds.
    pub kind: String,
    /// Why it was made.
    pub made_by: MadeBy,
    /// What snapshots are found by; at most some kilobytes.
    pub labels: serde_json::Value,
    /// The run's report, made when all but the head is written.
    pub report: Box<dyn FnOnce(&CommitFacts) -> serde_json::Value + Send>,
}

impl std::fmt::Debug for CommitInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitInfo").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl CommitInfo {
    /// A commit with a report that is known already, of a run that is repeated:
    /// retention counts it.
    #[must_use]
    pub fn new(
        kind: impl Into<String>,
        labels: serde_json::Value,
        report: serde_json::Value,
    ) -> Self {
        let (kind, made_by) = (kind.into(), MadeBy::Schedule);
        Self { kind, made_by, labels, report: Box::new(move |_| report) }
    }
}

/// What is certain once all but the head is written.
#[derive(Clone, Debug)]
pub struct CommitFacts {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// The attempt, from 0.
    pub attempt: u32,
    /// Bytes of the run.
    pub bytes: ByteCounts,
    /// When the attempt began.
    pub start_time: Timestamp,
    /// The time of the commit.
    pub commit_time: Timestamp,
    /// How often something of an older snapshot could not be read, so that what
    /// it knew was stored again.
    pub passed_over: u64,
}

impl SnapshotWriter {
    /// Makes all durable and commits the snapshot.
    ///
    /// # Errors
    /// `Fenced` if the attempt was given up meanwhile; else what has failed.
    /// After an error of the store nobody knows: [`crate::Repository::resolve_run`] does.
    pub async fn commit(self, info: CommitInfo) -> Result<Snapshot> {
        let shared = Arc::clone(&self.shared);
        shared.check()?;
        if let Some(open) = shared.lock(&shared.streams).open.iter().next() {
            return Err(Error::Misuse(format!("the stream {open:?} is still open")));
        }
        flush(&shared).await?;
        let (packs, streams) = tables(&shared).await?;
        let mut head = self.build_head(&shared, &packs, &streams).await?;
        drop((packs, streams));
        let facts = CommitFacts {
            id: shared.id.clone(),
            attempt: shared.id.attempt(),
            bytes: head.about.bytes.clone(),
            start_time: self.start_time,
            commit_time: head.about.commit_time,
            passed_over: shared.passed_over(),
        };
        head.about.kind = info.kind;
        head.about.made_by = info.made_by;
        head.about.labels = info.labels;
        head.report = (info.report)(&facts);
        let mut content = head.encode()?;
        if content.len() + 64 > MAX_HEAD_BYTES {
            // No snapshot may fail for want of room for hooks.
            head.hooks.clear();
            content = head.encode()?;
        }
        if content.len() + 64 > MAX_HEAD_BYTES {
            return Err(Error::Misuse(format!("a head of {} bytes is too large", content.len())));
        }
        shared.check()?;
        // From here on it may be committed: the fence that the heartbeat looks
        // for is what the head itself runs into.
        drop(self.heart);
        let digest = shared.inner.commit_head(&shared.id, &content).await?;
        Ok(Snapshot::new(&self.repository, shared.id.clone(), head, digest))
    }

    async fn build_head(
        &self,
        shared: &Shared,
        packs: &[UsedPack],
        streams: &[StreamEntry],
    ) -> Result<Head> {
        let mut sessions: Vec<Arc<str>> = vec![Arc::from(shared.id.as_str())];
        let mut pages = pack_pages(packs, &mut sessions)?;
        let hooks = shared.unless_stopped(shared.hooks.for_head(shared, packs)).await?;
        let first_stream_page = pages.len();
        pages.extend(stream_pages(streams)?);
        let inline = pages.iter().map(|page| page.piece.len()).sum::<usize>() <= INLINE_TABLE_BYTES;
        let mut meta = shared.meta.lock().await;
        let mut places = Vec::with_capacity(pages.len());
        for page in &mut pages {
            let piece = std::mem::take(&mut page.piece);
            places.push(if inline {
                Place::Inline(piece)
            } else {
                shared.unless_stopped(meta.put(&shared.inner, &piece)).await??
            });
        }
        shared.unless_stopped(meta.flush(&shared.inner)).await??;
        shared.totals.add_stored(meta.stored());
        let session: Arc<str> = Arc::from(shared.id.as_str());
        let finished = std::mem::replace(&mut *meta, super::meta::MetaWriter::new(session));
        let mut placed = pages.into_iter().zip(places);
        let pack_pages = placed
            .by_ref()
            .take(first_stream_page)
            .map(|(page, place)| PackPage { entries: page.entries, place })
            .collect();
        let stream_pages = placed
            .map(|(page, place)| StreamPage { entries: page.entries, first: page.first, place })
            .collect();
        Ok(Head {
            about: self.about(shared, streams.len() as u64),
            sessions,
            metas: finished.into_entries(),
            pack_pages,
            stream_pages,
            report: serde_json::Value::Null,
            moves: Vec::new(),
            hooks,
            digest_key: shared.origin.as_ref().map(|origin| origin.digest_key.clone()),
        })
    }

    fn about(&self, shared: &Shared, streams: u64) -> About {
        let predecessor = shared.predecessors.newest();
        About {
            session: shared.id.to_string(),
            series: self.options.series.clone(),
            run_id: self.options.run_id.clone(),
            slot_time: self.options.slot_time,
            attempt: shared.id.attempt(),
            kind: String::new(),
            made_by: MadeBy::default(),
            sequence: predecessor.map_or(1, |old| old.about().sequence.saturating_add(1)),
            predecessor: predecessor.map(|old| PredecessorRef {
                id: old.id().to_string(),
                digest: old.digest().to_owned(),
            }),
            copied_from: shared.origin.as_ref().map(|origin| origin.copied_from.clone()),
            start_time: self.start_time,
            commit_time: shared.inner.environment.now(),
            bytes: shared.totals.get(),
            streams,
            labels: serde_json::Value::Null,
        }
    }
}

/// Sends the last blocks on their way and waits until all packs are durable.
async fn flush(shared: &Arc<Shared>) -> Result<()> {
    let mut blocks = std::mem::take(&mut *shared.lock(&shared.abandoned));
    let tail = std::mem::take(&mut *shared.lock(&shared.tail));
    if !tail.data.is_empty() {
        blocks.push(tail);
    }
    if !blocks.is_empty() {
        shared.submit_blocks(blocks).await?;
    }
    shared.sealing.close();
    shared.unless_stopped(shared.sealing.wait()).await?;
    let (done, finished) = oneshot::channel();
    shared.submit(Job::Finish(done)).await?;
    shared.unless_stopped(finished).await?.map_err(|_| shared.stopped())?;
    let uploads = shared.lock(&shared.packer).uploads.clone();
    uploads.close();
    shared.unless_stopped(uploads.wait()).await?;
    shared.check()
}

/// The tables of packs and streams, complete.
async fn tables(shared: &Shared) -> Result<(Vec<UsedPack>, Vec<StreamEntry>)> {
    let finished = std::mem::take(&mut shared.lock(&shared.streams).finished);
    let mut streams = Vec::with_capacity(finished.len());
    for (name, stream) in finished {
        streams.push(stream.into_entry(shared, name).await?);
    }
    let packs = std::mem::take(&mut *shared.lock(&shared.packs))
        .into_table()
        .ok_or_else(|| Error::System("a pack never became durable".into()))?;
    Ok((packs, streams))
}

struct Page {
    entries: u32,
    first: String,
    piece: Vec<u8>,
}

/// Packs pages, of a table that may have `left` plain bytes yet: readers refuse a larger
/// one.
struct Pages {
    pages: Vec<Page>,
    left: u64,
}

impl Pages {
    fn push(&mut self, entries: u32, first: String, page: &[u8]) -> Result<()> {
        let too_large = || Error::Misuse("a table of the snapshot is too large".into());
        self.left = self.left.checked_sub(page.len() as u64).ok_or_else(too_large)?;
        self.pages.push(Page { entries, first, piece: encode_piece(page) });
        Ok(())
    }
}

/// The table of packs that stand in the head, whatever it takes.
pub(crate) fn inline_pack_pages(
    packs: &[UsedPack],
    sessions: &mut Vec<Arc<str>>,
) -> Result<Vec<PackPage>> {
    let page = |page: Page| PackPage { entries: page.entries, place: Place::Inline(page.piece) };
    Ok(pack_pages(packs, sessions)?.into_iter().map(page).collect())
}

fn pack_pages(packs: &[UsedPack], sessions: &mut Vec<Arc<str>>) -> Result<Vec<Page>> {
    let mut numbers: std::collections::HashMap<Arc<str>, u32> =
        sessions.iter().cloned().zip(0..).collect();
    let mut pages = Pages { pages: Vec::new(), left: MAX_PACK_TABLE_BYTES };
    let (mut page, mut entries) = (Vec::new(), 0);
    for pack in packs {
        let session = &pack.entry.name.session;
        let number = *numbers.entry(Arc::clone(session)).or_insert_with(|| {
            sessions.push(Arc::clone(session));
            sessions.len() as u32 - 1
        });
        put_pack(&mut page, number, pack);
        entries += 1;
        if page.len() >= PAGE_BYTES {
            pages.push(entries, String::new(), &page)?;
            (page, entries) = (Vec::new(), 0);
        }
    }
    if entries > 0 {
        pages.push(entries, String::new(), &page)?;
    }
    Ok(pages.pages)
}

fn stream_pages(streams: &[StreamEntry]) -> Result<Vec<Page>> {
    let mut pages = Pages { pages: Vec::new(), left: MAX_STREAM_TABLE_BYTES };
    let (mut page, mut first) = (Vec::new(), 0);
    for (n, stream) in streams.iter().enumerate() {
        let before = if n == first { "" } else { streams[n - 1].name.as_str() };
        put_stream(&mut page, before, stream);
        if page.len() >= PAGE_BYTES || n + 1 == streams.len() {
            pages.push((n + 1 - first) as u32, streams[first].name.clone(), &page)?;
            page = Vec::new();
            first = n + 1;
        }
    }
    Ok(pages.pages)
}
