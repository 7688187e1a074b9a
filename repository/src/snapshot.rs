//! Snapshots: what they are, which streams they hold, and where these are.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use dbbackup_storage::collect_listing;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::block_set::BlockSet;
use crate::head::{About, Head, HeadObject, MetaEntry};
use crate::hooks::{Hook, parse_hooks};
use crate::keyring::DigestKey;
use crate::moves::Move;
use crate::names::{SNAPSHOTS, SnapshotId, series_prefix};
use crate::piece::Place;
use crate::reader::StreamReader;
use crate::repository::{Inner, Repository};
use crate::tables::{
    MAX_PACK_TABLE_BYTES, MAX_STREAM_TABLE_BYTES, StreamEntry, UsedPack, parse_packs, parse_streams,
};
use crate::written_off::WriteOff;
use crate::{Error, Result};

/// A committed snapshot. Clones share what was read of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    inner: Arc<Inner>,
    id: SnapshotId,
    head: Arc<Head>,
    digest: Arc<str>,
    packs: Arc<OnceCell<Arc<Vec<UsedPack>>>>,
    page: Arc<Mutex<Option<(usize, StreamPageEntries)>>>,
    written_off: Option<Arc<WriteOff>>,
}

type StreamPageEntries = Arc<Vec<StreamEntry>>;

/// A stream of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its keyed digest, as hexadecimal digits.
    pub digest: String,
}

/// The snapshots of a repository or a series.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// Those that can be read, sorted by series and time.
    pub snapshots: Vec<Snapshot>,
    /// Those whose head cannot be read, and why.
    pub unreadable: Vec<(SnapshotId, Error)>,
    /// Those of both kinds that were written off, and why.
    pub written_off: BTreeMap<SnapshotId, WriteOff>,
}

/// What stands under the name of a snapshot.
#[derive(Debug)]
pub enum Listed {
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// One whose head cannot be read, and why.
    Unreadable(SnapshotId, Error),
    /// One that was let go, whose head is still there.
    LetGo(SnapshotId),
}

impl Repository {
    /// Shows all snapshots to `see`, one after the other, and keeps none: for callers
    /// that need little of each.
    ///
    /// # Errors
    /// What the store says. A damaged head is no error, but shown as such.
    pub async fn each_snapshot(&self, see: impl FnMut(Listed)) -> Result<()> {
        self.each_unknown_snapshot(|_| false, see).await
    }

    /// The same but for those whose ids are known: their heads are not read.
    ///
    /// # Errors
    /// What the store says. A damaged head is no error, but shown as such.
    pub async fn each_unknown_snapshot(
        &self,
        is_known: impl Fn(&SnapshotId) -> bool,
        see: impl FnMut(Listed),
    ) -> Result<()> {
        self.each_head("", &self.written_off("").await?, is_known, see).await
    }

    /// All snapshots, or those of a series.
    ///
    /// # Errors
    /// What the store says. A damaged head is no error, but listed as such.
    pub async fn snapshots(&self, series: Option<&str>) -> Result<SnapshotList> {
        let series = series.map(|series| series_prefix(&self.inner.keys, series));
        self.heads(&series.unwrap_or_default()).await
    }

    pub(crate) async fn heads(&self, prefix: &str) -> Result<SnapshotList> {
        let written_off = self.written_off(prefix).await?;
        let (mut snapshots, mut unreadable) = (Vec::new(), Vec::new());
        let see = |listed| match listed {
            Listed::Snapshot(snapshot) => snapshots.push(*snapshot),
            Listed::Unreadable(id, error) => unreadable.push((id, error)),
            Listed::LetGo(_) => {}
        };
        self.each_head(prefix, &written_off, |_| false, see).await?;
        Ok(SnapshotList { snapshots, unreadable, written_off })
    }

    async fn written_off(&self, prefix: &str) -> Result<BTreeMap<SnapshotId, WriteOff>> {
        let (written_off, unreadable) = self.inner.all_written_off(prefix).await?;
        for error in unreadable {
            tracing::warn!(%error, "does not count");
        }
        Ok(written_off)
    }

    async fn each_head(
        &self,
        prefix: &str,
        written_off: &BTreeMap<SnapshotId, WriteOff>,
        is_known: impl Fn(&SnapshotId) -> bool,
        mut see: impl FnMut(Listed),
    ) -> Result<()> {
        let decided = self.inner.decided().await?;
        let listing = self.inner.store.list(&format!("{SNAPSHOTS}{prefix}"));
        for object in collect_listing(listing).await? {
            let name = object.name.strip_prefix(SNAPSHOTS).unwrap_or_default();
            let Ok(id) = SnapshotId::parse(name) else { continue };
            if is_known(&id) || self.inner.is_repacking(&id) {
                continue;
            }
            if decided.contains(&id) && self.inner.is_hidden(&id).await? {
                see(Listed::LetGo(id));
                continue;
            }
            match self.inner.head_object(&id).await {
                Ok(Some((HeadObject::Head(head), digest))) => {
                    let written_off = written_off.get(&id).cloned().map(Arc::new);
                    let snapshot = Snapshot::new(self, id, *head, digest);
                    see(Listed::Snapshot(Box::new(Snapshot { written_off, ..snapshot })));
                }
                Ok(Some((HeadObject::Tombstone, _)) | None) => {}
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(error) => see(Listed::Unreadable(id, error)),
            }
        }
        Ok(())
    }

    /// The snapshot of this id, whatever was decided about it; `None` where a tombstone
    /// or nothing stands in its place. The head of one that was let go stays while somebody
    /// reads it.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub async fn head_at(&self, id: &SnapshotId) -> Result<Option<Snapshot>> {
        Ok(match self.inner.head_object(id).await? {
            Some((HeadObject::Head(head), digest)) => {
                Some(Snapshot::new(self, id.clone(), *head, digest))
            }
            Some((HeadObject::Tombstone, _)) | None => None,
        })
    }

    /// The one snapshot whose id begins with `prefix`.
    ///
    /// # Errors
    /// `SnapshotNotFound`, `SnapshotForgotten`, `SnapshotAmbiguous`, or why it
    /// cannot be read.
    pub async fn find(&self, prefix: &str) -> Result<Snapshot> {
        let found = self.find_listed(prefix).await;
        // A listing may not show yet that it was let go.
        let id = match &found {
            Ok(snapshot) => Some(snapshot.id().clone()),
            Err(Error::SnapshotNotFound(_)) => SnapshotId::parse(prefix).ok(),
            Err(_) => None,
        };
        match id {
            Some(id) if self.inner.is_hidden(&id).await? => Err(Error::Forgotten(id.to_string())),
            _ => found,
        }
    }

    async fn find_listed(&self, prefix: &str) -> Result<Snapshot> {
        let not_found = || Error::SnapshotNotFound(prefix.to_owned());
        let plausible = prefix.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !plausible || prefix.is_empty() {
            return Err(not_found());
        }
        let mut list = self.heads(prefix).await?;
        // A whole id is not ambiguous because another one goes on after it.
        if let Some(exact) = list.snapshots.iter().find(|found| found.id.as_str() == prefix) {
            return Ok(exact.clone());
        }
        match (list.snapshots.len(), list.unreadable.len()) {
            (0, 0) => Err(not_found()),
            (1, 0) => list.snapshots.pop().ok_or_else(not_found),
            (0, 1) => Err(list.unreadable.pop().map_or_else(not_found, |(_, error)| error)),
            (readable, unreadable) => {
                let newest = list.snapshots.iter().max_by_key(|found| found.about().slot_time);
                let broken = list.unreadable.first().map(|(id, _)| id);
                Err(Error::SnapshotAmbiguous {
                    prefix: prefix.to_owned(),
                    count: readable + unreadable,
                    newest: newest.map(Snapshot::id).or(broken).cloned().ok_or_else(not_found)?,
                })
            }
        }
    }

    /// The newest snapshot of a series whose slot lies before `before`.
    ///
    /// # Errors
    /// `SnapshotNotFound`, or what the store says.
    pub async fn latest(&self, series: &str, before: Option<Timestamp>) -> Result<Snapshot> {
        self.newest(series, before)
            .await?
            .ok_or_else(|| Error::SnapshotNotFound(format!("(the newest of {series})")))
    }
}

impl Snapshot {
    pub(crate) fn new(repository: &Repository, id: SnapshotId, head: Head, digest: String) -> Self {
        Self {
            inner: Arc::clone(&repository.inner),
            id,
            head: Arc::new(head),
            digest: Arc::from(digest),
            packs: Arc::default(),
            page: Arc::default(),
            written_off: None,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }

    /// What it is.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.head.about
    }

    /// Why it was written off, if it was: known of snapshots that were listed or
    /// found by their id, not of one that a run has just made.
    #[must_use]
    pub fn written_off(&self) -> Option<&WriteOff> {
        self.written_off.as_deref()
    }

    /// Refuses a snapshot that was written off: data of it is lost, or may be
    /// deleted at any time.
    ///
    /// # Errors
    /// `SnapshotWrittenOff`.
    pub fn must_not_be_written_off(&self) -> Result<()> {
        match self.written_off() {
            None => Ok(()),
            Some(why) => {
                Err(Error::WrittenOff { snapshot: self.id.to_string(), reason: why.reason.clone() })
            }
        }
    }

    /// The report of the run that made it.
    #[must_use]
    pub fn report(&self) -> &serde_json::Value {
        &self.head.report
    }

    /// SHA-256 of the stored head, as hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn metas(&self) -> &[MetaEntry] {
        &self.head.metas
    }

    /// Blocks of other packs that stand in its own.
    pub(crate) fn moves(&self) -> &[Move] {
        &self.head.moves
    }

    /// The hooks of the packs in its table.
    pub(crate) fn hooks(&self) -> Result<Vec<Hook>> {
        match &self.head.hooks[..] {
            [] => Ok(Vec::new()),
            section => parse_hooks(section).map_err(|error| self.damaged(error)),
        }
    }

    /// What the digests of its streams are keyed with.
    pub(crate) fn digest_key(&self) -> &DigestKey {
        self.head.digest_key.as_ref().unwrap_or_else(|| self.inner.keys.stream_digest())
    }

    fn damaged(&self, error: impl std::fmt::Display) -> Error {
        Error::damaged(self.id.head_name(), error.to_string())
    }

    /// The table of packs, read once: 150 bytes a pack and two bits a block.
    pub(crate) async fn packs(&self) -> Result<Arc<Vec<UsedPack>>> {
        let load = async {
            let mut packs = Vec::new();
            self.for_each_pack(|pack| packs.push(pack.clone())).await?;
            Ok(Arc::new(packs))
        };
        self.packs.get_or_try_init(|| load).await.cloned()
    }

    /// Shows every pack of the table, page by page: nothing is kept.
    pub(crate) async fn for_each_pack(&self, mut each: impl FnMut(&UsedPack)) -> Result<()> {
        if let Some(packs) = self.packs.get() {
            packs.iter().for_each(&mut each);
            return Ok(());
        }
        let (mut seen, mut left) = (HashSet::new(), MAX_PACK_TABLE_BYTES);
        for page in &self.head.pack_pages {
            let bytes = self.inner.piece_within(&page.place, self.metas(), &mut left).await?;
            let packs = parse_packs(&bytes, page.entries, &self.head.sessions, &mut seen);
            packs.map_err(|error| self.damaged(error))?.iter().for_each(&mut each);
        }
        Ok(())
    }

    /// How many pages its table of streams has.
    pub(crate) fn stream_pages(&self) -> usize {
        self.head.stream_pages.len()
    }

    /// Where its tables stand.
    pub(crate) fn table_places(&self) -> impl Iterator<Item = &Place> {
        let packs = self.head.pack_pages.iter().map(|page| &page.place);
        packs.chain(self.head.stream_pages.iter().map(|page| &page.place))
    }

    pub(crate) async fn stream_page(&self, number: usize) -> Result<StreamPageEntries> {
        self.stream_page_within(number, &mut MAX_STREAM_TABLE_BYTES.clone()).await
    }

    /// One of several pages that may have `left` plain bytes in all: of a walk through the
    /// table, [`MAX_STREAM_TABLE_BYTES`].
    pub(crate) async fn stream_page_within(
        &self,
        number: usize,
        left: &mut u64,
    ) -> Result<StreamPageEntries> {
        let lock = || self.page.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, entries)) = &*lock()
            && *known == number
        {
            return Ok(Arc::clone(entries));
        }
        let page = self
            .head
            .stream_pages
            .get(number)
            .ok_or_else(|| self.damaged("a page of its streams is missing"))?;
        let bytes = self.inner.piece_within(&page.place, self.metas(), left).await?;
        let entries = parse_streams(&bytes, page.entries).map_err(|error| self.damaged(error))?;
        if entries.first().map(|entry| &entry.name) != Some(&page.first) {
            return Err(self.damaged("a page of its streams begins with another name"));
        }
        let entries = Arc::new(entries);
        *lock() = Some((number, Arc::clone(&entries)));
        Ok(entries)
    }

    pub(crate) async fn entry(&self, name: &str) -> Result<StreamEntry> {
        let not_found =
            || Error::StreamNotFound { snapshot: self.id.to_string(), name: name.to_owned() };
        let behind = self.head.stream_pages.partition_point(|page| page.first.as_str() <= name);
        let page = self.stream_page(behind.checked_sub(1).ok_or_else(not_found)?).await?;
        let found = page.binary_search_by(|entry| entry.name.as_str().cmp(name));
        Ok(page[found.map_err(|_| not_found())?].clone())
    }

    /// All entries whose name begins with `prefix`, page by page.
    pub(crate) async fn for_each_entry(
        &self,
        prefix: &str,
        mut each: impl FnMut(&StreamEntry),
    ) -> Result<()> {
        let mut left = MAX_STREAM_TABLE_BYTES;
        for (number, page) in self.head.stream_pages.iter().enumerate() {
            // A page behind the prefix holds none of it, nor do those after.
            if page.first.as_str() > prefix && !page.first.starts_with(prefix) {
                break;
            }
            for entry in &*self.stream_page_within(number, &mut left).await? {
                if entry.name.starts_with(prefix) {
                    each(entry);
                }
            }
        }
        Ok(())
    }

    /// The streams whose name begins with `prefix`, sorted by name.
    ///
    /// # Errors
    /// `RepositoryDamaged`, `ObjectMissing`, or what the store says.
    pub async fn streams(&self, prefix: &str) -> Result<Vec<StreamInfo>> {
        let mut streams = Vec::new();
        self.for_each_entry(prefix, |entry| {
            streams.push(StreamInfo {
                name: entry.name.clone(),
                length: entry.length,
                digest: data_encoding::HEXLOWER.encode(&entry.digest),
            });
        })
        .await?;
        Ok(streams)
    }

    /// Opens a stream from its beginning. Several may be open at the same time.
    ///
    /// # Errors
    /// `StreamNotFound`, or why it cannot be read.
    pub async fn stream(&self, name: &str) -> Result<StreamReader> {
        let entry = self.entry(name).await?;
        let packs = self.packs().await?;
        let (inner, metas) = (Arc::clone(&self.inner), self.head.metas.clone());
        Ok(StreamReader::open(inner, metas, packs, entry, Some(self.digest_key())))
    }

    /// Opens parts of its streams, behind each other, by a recipe of their own. Each
    /// block is verified, but no digest.
    pub(crate) async fn parts(&self, recipe: StreamEntry) -> Result<StreamReader> {
        let (inner, packs) = (Arc::clone(&self.inner), self.packs().await?);
        Ok(StreamReader::open(inner, Vec::new(), packs, recipe, None))
    }

    /// Checks that the head can be read back, and that every pack and meta
    /// object that it needs is there with the right size.
    ///
    /// # Errors
    /// `ObjectMissing` or `RepositoryDamaged` for the first that is not.
    pub async fn verify_manifest(&self) -> Result<()> {
        match self.inner.head_object(&self.id).await? {
            Some((HeadObject::Head(_), digest)) if *digest == *self.digest => {}
            Some(_) => return Err(self.damaged("it is not the head that was read before")),
            None => return Err(Error::Missing(self.id.head_name())),
        }
        for meta in self.metas() {
            self.verify_size(&meta.name.meta_object(), meta.size).await?;
        }
        let packs = self.packs().await?;
        for pack in packs.iter().filter(|pack| pack.is_used()) {
            match self.verify_size(&pack.entry.name.pack_object(), pack.entry.size).await {
                Err(Error::Missing(_)) if self.is_moved(pack).await? => {}
                found => found?,
            }
        }
        Ok(())
    }

    /// Whether every block that is used of a pack that is gone is in another one.
    async fn is_moved(&self, pack: &UsedPack) -> Result<bool> {
        let blocks = match self.inner.footers.blocks(&self.inner, &pack.entry).await {
            Err(Error::Missing(_)) => return Ok(false),
            blocks => blocks?,
        };
        Ok(BlockSet::used(pack).iter().all(|block| blocks.plain(block).is_some()))
    }

    async fn verify_size(&self, name: &str, size: u32) -> Result<()> {
        let found = self.inner.store.head(name).await.map_err(Error::needed)?;
        if found.size != u64::from(size) {
            let detail = format!("it has {} bytes instead of {size}", found.size);
            return Err(Error::damaged(name, detail));
        }
        Ok(())
    }
}
