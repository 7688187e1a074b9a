//! An open repository: its store, its keys, and the objects that both give.

use std::sync::Arc;

use bytes::Bytes;
use dbbackup_storage::{Creation, ErrorKind, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::{Kind, ObjectSeal, open_object, seal_object};
use crate::environment::Environment;
use crate::footers::Footers;
use crate::head::MetaEntry;
use crate::keyring::{Cipher, Keyring, RepositoryId};
use crate::moves::KnownMoves;
use crate::piece::{Place, decode_piece_within};
use crate::{Error, Result};

/// A repository that was opened. Clones share it.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

/// Why nothing may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadOnly {
    /// A feature that this release does not know forbids it.
    NewerRelease,
    /// It was opened so.
    AsAsked,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Keyring,
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) footers: Footers,
    pub(crate) moves: KnownMoves,
    /// Why nothing is written, where nothing may be.
    pub(crate) read_only: Option<ReadOnly>,
    /// The oldest collector that may delete here.
    pub(crate) min_collector: u32,
}

impl Repository {
    /// The repository's id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.inner.keys.repository
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.inner.keys.cipher == Cipher::Aes256Gcm
    }

    /// Refuses where nothing may be written.
    ///
    /// # Errors
    /// `RepositoryReadOnly`, or `RepositoryVersionUnsupported` where a newer release forbids it.
    pub fn may_write(&self) -> Result<()> {
        self.inner.may_write()
    }
}

/// An object that was created, or one that stands in its place.
pub(crate) struct Put {
    pub(crate) object: Bytes,
    pub(crate) created: bool,
}

impl Inner {
    /// Creates an object of one frame. One of ours that is there already, since
    /// an acknowledgement was lost, counts as created: its random bytes are fresh.
    pub(crate) async fn put(&self, kind: Kind, name: &str, content: &[u8]) -> Result<Put> {
        let object = Bytes::from(seal_object(&self.keys, &*self.environment, kind, name, content)?);
        let created = self.create(name, object.clone()).await?;
        Ok(Put { object, created })
    }

    /// Creates an object of these bytes; false if another one has the name.
    pub(crate) async fn create(&self, name: &str, object: Bytes) -> Result<bool> {
        match self.store.create(name, object.clone()).await? {
            Creation::Created => Ok(true),
            Creation::Exists => match self.store.get(name).await {
                Ok(found) => Ok(found == object),
                Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Creates an object of one frame of JSON; false if another one has the name.
    pub(crate) async fn put_json(
        &self,
        kind: Kind,
        name: &str,
        content: &impl Serialize,
    ) -> Result<bool> {
        let json = serde_json::to_vec(content).map_err(|error| Error::Misuse(error.to_string()))?;
        Ok(self.put(kind, name, &json).await?.created)
    }

    /// Reads an object of one frame of JSON, if it is there.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        kind: Kind,
        name: &str,
    ) -> Result<Option<T>> {
        let Some(content) = self.find_content(kind, name).await? else { return Ok(None) };
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| Error::damaged(name, error.to_string()))
    }

    /// Whether an object is there: reads do not lag as listings may.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        match self.store.head(name).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a stored object, if it is there.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Bytes>> {
        match self.store.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::needed(error)),
        }
    }

    /// Reads the content of an object of one frame, if it is there.
    pub(crate) async fn find_content(&self, kind: Kind, name: &str) -> Result<Option<Vec<u8>>> {
        match self.find(name).await? {
            Some(object) => open_object(&self.keys, kind, name, &object).map(Some),
            None => Ok(None),
        }
    }

    /// Reads a piece from wherever it stands.
    pub(crate) async fn piece(&self, place: &Place, metas: &[MetaEntry]) -> Result<Vec<u8>> {
        self.piece_within(place, metas, &mut u64::MAX.clone()).await
    }

    /// Reads one of several pieces that may have `left` plain bytes in all.
    pub(crate) async fn piece_within(
        &self,
        place: &Place,
        metas: &[MetaEntry],
        left: &mut u64,
    ) -> Result<Vec<u8>> {
        match place {
            Place::Inline(piece) => decode_piece_within(piece, left)
                .map_err(|error| Error::damaged("a table of the snapshot", error.to_string())),
            Place::Meta { object, counter, at, stored } => {
                let meta = metas.get(*object as usize).ok_or_else(|| {
                    Error::damaged("a table of the snapshot", "it names a meta object that is none")
                })?;
                let name = meta.name.meta_object();
                let range = u64::from(*at)..u64::from(*at) + u64::from(*stored);
                let bytes = self.store.get_range(&name, range).await.map_err(Error::needed)?;
                let seal = ObjectSeal::with_salt(&self.keys, meta.salt, Kind::Meta, name.clone())?;
                let mut frame = Vec::from(bytes);
                seal.open(u64::from(*counter), false, &mut frame)?;
                decode_piece_within(&frame, left)
                    .map_err(|error| Error::damaged(name, error.to_string()))
            }
        }
    }
}
