//! A folder of a mounted volume as a store.
//!
//! An object is a file of the same name below the root. It is written as a file
//! in `.tmp/`, fsynced, and put in place by `link` (or by a rename that replaces
//! nothing, where the file system has no hard links); then its folder is
//! fsynced. So a crash leaves whole objects and files in `.tmp/` only.
//!
//! Every path is walked part by part from the root's descriptor without
//! following symbolic links: who can write to the volume cannot lead us out of it.

mod files;
mod walk;

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use self::files::{Publish, Root};
use crate::{
    Capabilities, Creation, Error, ErrorKind, Listing, ObjectInfo, Operation, Result, Store,
    validate_name, validate_prefix, validate_size,
};

/// Objects that a listing reads ahead of its reader: about 100 bytes each.
const LIST_AHEAD: usize = 1024;

/// How a volume is opened.
#[derive(Clone, Copy, Debug)]
pub struct VolumeOptions {
    /// Whether anything may be written. A store that may not is not probed
    /// either, and needs no more than the right to read.
    pub writable: bool,
    /// Whether the folder itself is created where it is missing.
    pub create_folder: bool,
    /// Files in `.tmp/` that are older were left by a crash and are removed at
    /// opening. It must exceed the longest time that writing one object takes.
    pub leftover_age: Duration,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self {
            writable: true,
            create_folder: true,
            leftover_age: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// A store in a folder.
#[derive(Debug)]
pub struct VolumeStore {
    root: Arc<Root>,
}

impl VolumeStore {
    /// Opens the folder `path`, finds out how files can be put in place without
    /// replacing others, and removes old leftovers.
    ///
    /// # Errors
    /// `NotFound` if the folder does not exist, `Unsuitable` if the file system
    /// has neither hard links nor rename without replacement.
    pub async fn open(path: impl Into<PathBuf>, options: VolumeOptions) -> Result<Self> {
        let path = path.into();
        let root = blocking(Operation::Open, "the volume", move || {
            Root::open(&path, options.writable, options.create_folder, options.leftover_age)
        })
        .await?;
        Ok(Self { root: Arc::new(root) })
    }

    /// How objects are put in place; for the log.
    #[must_use]
    pub fn publishes_by_link(&self) -> bool {
        self.root.publish() == Some(Publish::Link)
    }
}

/// Runs blocking work off the caller's thread.
async fn blocking<T: Send + 'static>(
    operation: Operation,
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::new(ErrorKind::Unavailable, operation, name, "the work was cut")
            .caused_by(error)),
    }
}

#[async_trait]
impl Store for VolumeStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        validate_name(Operation::Create, name)?;
        validate_size(name, &bytes)?;
        let (root, owned) = (Arc::clone(&self.root), name.to_owned());
        blocking(Operation::Create, name, move || root.create(&owned, &bytes)).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        validate_name(Operation::Read, name)?;
        let (root, owned) = (Arc::clone(&self.root), name.to_owned());
        blocking(Operation::Read, name, move || root.read(&owned)).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        validate_name(Operation::Read, name)?;
        let (root, owned) = (Arc::clone(&self.root), name.to_owned());
        blocking(Operation::Read, name, move || root.read_range(&owned, range)).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        validate_name(Operation::Head, name)?;
        let (root, owned) = (Arc::clone(&self.root), name.to_owned());
        blocking(Operation::Head, name, move || root.head(&owned)).await
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        if let Err(error) = validate_prefix(prefix) {
            return futures::stream::iter([Err(error)]).boxed();
        }
        let (root, prefix) = (Arc::clone(&self.root), prefix.to_owned());
        let (sender, receiver) = mpsc::channel(LIST_AHEAD);
        // Ends by itself when the listing is dropped: its channel is closed then.
        spawn_blocking(move || walk::list(&root, &prefix, &sender));
        futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|item| (item, receiver))
        })
        .boxed()
    }

    async fn delete(&self, name: &str) -> Result<()> {
        validate_name(Operation::Delete, name)?;
        let (root, owned) = (Arc::clone(&self.root), name.to_owned());
        blocking(Operation::Delete, name, move || root.delete(&owned)).await
    }

    fn capabilities(&self) -> Capabilities {
        // The file system was asked when it was opened for writing.
        if self.root.publish().is_some() { Capabilities::LOCAL } else { Capabilities::default() }
    }
}

/// What an error number of the file system means under the contract.
fn failure(operation: Operation, name: &str, errno: rustix::io::Errno) -> Error {
    use rustix::io::Errno;
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => ErrorKind::NotFound,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => ErrorKind::Full,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorKind::PermissionDenied,
        Errno::LOOP | Errno::NAMETOOLONG => ErrorKind::Unsuitable,
        _ => ErrorKind::Unavailable,
    };
    let detail = match errno {
        Errno::LOOP => "a symbolic link lies where none may be".to_owned(),
        other => std::io::Error::from(other).to_string(),
    };
    Error::new(kind, operation, name, detail).caused_by(std::io::Error::from(errno))
}

/// A folder's descriptor.
type Folder = OwnedFd;
