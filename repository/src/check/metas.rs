//! The meta objects of one snapshot, verified to their last byte.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::packs::wrong_size;
use super::unless_unavailable;
use crate::envelope::{HEADER_BYTES, Kind, ObjectSeal, TAG_BYTES};
use crate::head::MetaEntry;
use crate::piece::{Place, decode_piece};
use crate::repository::Inner;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Bytes of meta objects that are kept: those of a snapshot of about a tebibyte.
/// Of what does not fit, each piece is fetched by itself.
pub(super) const KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// Reads pieces, and remembers which frames were referred to.
pub(super) struct Metas<'a> {
    inner: &'a Inner,
    entries: &'a [MetaEntry],
    kept: BTreeMap<u32, Result<Bytes>>,
    kept_bytes: u64,
    /// Of each object, where the last frame that was referred to ends, and the
    /// counter behind it.
    ends: BTreeMap<u32, (usize, u64)>,
}

impl<'a> Metas<'a> {
    /// Of a snapshot, whose own tables count as read.
    pub(super) fn new(inner: &'a Inner, snapshot: &'a Snapshot) -> Self {
        let (kept, ends) = (BTreeMap::new(), BTreeMap::new());
        let mut metas = Self { inner, entries: snapshot.metas(), kept, kept_bytes: 0, ends };
        for place in snapshot.table_places() {
            metas.refer(place);
        }
        metas
    }

    fn refer(&mut self, place: &Place) {
        if let Place::Meta { object, counter, at, stored } = *place {
            let frame = (at as usize + stored as usize, u64::from(counter) + 1);
            let end = self.ends.entry(object).or_insert(frame);
            *end = (*end).max(frame);
        }
    }

    /// A piece from wherever it stands.
    pub(super) async fn piece(&mut self, place: &Place) -> Result<Vec<u8>> {
        self.refer(place);
        let Place::Meta { object, counter, at, stored } = *place else {
            return self.inner.piece(place, self.entries).await;
        };
        let Some(entry) = self.entries.get(object as usize) else {
            return self.inner.piece(place, self.entries).await;
        };
        if !self.kept.contains_key(&object) {
            if self.kept_bytes + u64::from(entry.size) > KEPT_BYTES {
                return self.inner.piece(place, self.entries).await;
            }
            self.kept_bytes += u64::from(entry.size);
            let whole = whole(self.inner, entry).await;
            self.kept.insert(object, whole);
        }
        let name = entry.name.meta_object();
        let Some(kept) = self.kept.get(&object) else {
            return Err(Error::System(format!("{name} was forgotten")));
        };
        let bytes = kept.clone()?;
        let frame = bytes.get(at as usize..at as usize + stored as usize);
        let mut frame =
            frame.ok_or_else(|| Error::damaged(&name, "a frame lies outside of it"))?.to_vec();
        let seal = ObjectSeal::with_salt(&self.inner.keys, entry.salt, Kind::Meta, name.clone())?;
        seal.open(u64::from(counter), false, &mut frame)?;
        decode_piece(&frame).map_err(|error| Error::damaged(name, error.to_string()))
    }

    /// What no piece has read: headers, sizes, and the frames that end the objects.
    ///
    /// # Errors
    /// Where the store is not available; damage is returned.
    pub(super) async fn verify_rest(self) -> Result<Vec<Error>> {
        let mut damages = Vec::new();
        for (number, entry) in (0..).zip(self.entries) {
            let bytes = match self.kept.get(&number) {
                Some(kept) => kept.clone(),
                None => whole(self.inner, entry).await,
            };
            let (end, counter) = self.ends.get(&number).copied().unwrap_or((HEADER_BYTES, 0));
            let verified =
                bytes.and_then(|bytes| verify_end(self.inner, entry, &bytes, end, counter));
            if let Err(error) = verified {
                damages.push(unless_unavailable(error)?);
            }
        }
        Ok(damages)
    }
}

/// A meta object, if it is the one that the head means.
async fn whole(inner: &Inner, entry: &MetaEntry) -> Result<Bytes> {
    let name = entry.name.meta_object();
    let bytes = inner.store.get(&name).await.map_err(Error::needed)?;
    if bytes.len() != entry.size as usize {
        return Err(wrong_size(name, bytes.len() as u64, entry.size));
    }
    let seal = ObjectSeal::of_header(&inner.keys, &bytes, Kind::Meta, name.clone())?;
    if seal.salt != entry.salt {
        return Err(Error::damaged(name, "it is not the object that the snapshot was made with"));
    }
    Ok(bytes)
}

/// The empty frame at the end. Frames of streams that were taken back may stand
/// before it, so that its counter is not known, but bounded.
fn verify_end(
    inner: &Inner,
    entry: &MetaEntry,
    bytes: &[u8],
    end: usize,
    counter: u64,
) -> Result<()> {
    let name = entry.name.meta_object();
    let seal = ObjectSeal::with_salt(&inner.keys, entry.salt, Kind::Meta, name.clone())?;
    let damaged = || Error::damaged(&name, "its end is damaged");
    let behind = bytes.get(end..).ok_or_else(damaged)?;
    let last = behind.last_chunk::<TAG_BYTES>().ok_or_else(damaged)?;
    let between = (behind.len() - TAG_BYTES) as u64 / (TAG_BYTES as u64 + 1);
    let opens = |n: u64| seal.open(counter + n, true, &mut last.to_vec()).is_ok();
    if (0..=between).any(opens) { Ok(()) } else { Err(damaged()) }
}
