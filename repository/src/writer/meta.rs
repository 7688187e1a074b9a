//! Meta objects as they grow: segments of recipes, and pages of tables.

use std::sync::Arc;

use bytes::Bytes;

use crate::envelope::{Kind, ObjectSeal, TAG_BYTES};
use crate::head::MetaEntry;
use crate::names::PartName;
use crate::piece::Place;
use crate::repository::Inner;
use crate::{Error, Result};

/// Size at which a meta object is written: the memory that it takes.
pub(super) const META_BYTES: usize = 2 * 1024 * 1024;

/// Collects pieces and writes them as meta objects.
#[derive(Debug)]
pub(super) struct MetaWriter {
    session: Arc<str>,
    open: Option<OpenMeta>,
    entries: Vec<MetaEntry>,
    stored: u64,
}

#[derive(Debug)]
struct OpenMeta {
    name: PartName,
    seal: ObjectSeal,
    object: Vec<u8>,
    frames: u32,
}

impl MetaWriter {
    pub(super) fn new(session: Arc<str>) -> Self {
        Self { session, open: None, entries: Vec::new(), stored: 0 }
    }

    /// Puts a piece into a meta object, and writes one that is full before.
    pub(super) async fn put(&mut self, inner: &Inner, piece: &[u8]) -> Result<Place> {
        if self.open.as_ref().is_some_and(|open| open.object.len() + piece.len() > META_BYTES) {
            self.flush(inner).await?;
        }
        let object = self.entries.len() as u32;
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let name = PartName::new(Arc::clone(&self.session), object);
                let environment = &*inner.environment;
                let seal =
                    ObjectSeal::fresh(&inner.keys, environment, Kind::Meta, name.meta_object())?;
                let object = seal.header().to_vec();
                self.open.insert(OpenMeta { name, seal, object, frames: 0 })
            }
        };
        let (at, counter) = (open.object.len(), open.frames);
        open.object.extend_from_slice(piece);
        open.seal.seal(u64::from(counter), false, &mut open.object, at)?;
        open.frames += 1;
        let stored = (piece.len() + TAG_BYTES) as u32;
        Ok(Place::Meta { object, counter, at: at as u32, stored })
    }

    /// Writes what is open.
    pub(super) async fn flush(&mut self, inner: &Inner) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let end = open.object.len();
        open.seal.seal(u64::from(open.frames), true, &mut open.object, end)?;
        let size = open.object.len() as u32;
        let name = open.name.meta_object();
        if !inner.create(&name, Bytes::from(open.object)).await? {
            return Err(Error::System(format!("{name} exists already")));
        }
        self.stored += u64::from(size);
        self.entries.push(MetaEntry { name: open.name, size, salt: open.seal.salt });
        Ok(())
    }

    /// Bytes that were written.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// The meta objects that were written.
    pub(super) fn into_entries(self) -> Vec<MetaEntry> {
        self.entries
    }
}
