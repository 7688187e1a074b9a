//! The contract that every driver keeps.

use std::fmt::Debug;
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::{Capabilities, Error, ErrorKind, Operation, Result};

/// Largest object that a store has to take, in bytes (`docs/format.md`, invariant 4).
pub const MAX_OBJECT_BYTES: usize = 32 * 1024 * 1024;

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// What became of a [`Store::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object is there, durable, with these bytes.
    Created,
    /// An object of this name was there before and is untouched.
    Exists,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was created, by the store's clock.
    pub modified: SystemTime,
}

/// Objects, as they are found.
pub type Listing<'a> = BoxStream<'a, Result<ObjectInfo>>;

/// A place that keeps named objects.
///
/// # The contract
/// - **Names** are parts joined by `/`; a part is made of `a–z`, `0–9` and `-`
///   ([`validate_name`]). Any other name is refused as [`ErrorKind::Misuse`]
///   before the store is touched.
/// - **Objects never change.** [`create`](Store::create) makes a whole object or
///   none, also when the process or the machine dies in the middle, and never
///   replaces one. Of several that create the same name at the same time exactly
///   one gets [`Creation::Created`], but for places whose
///   [`capabilities`](Store::capabilities) say otherwise. When it returns, the
///   object survives a power cut.
/// - **Reading sees what was created.** After `Created`, every `get`,
///   `get_range` and `head` by anybody sees the object. Listings may lag: they
///   may miss what is new and show what was deleted a while ago. They come in no
///   particular order and may be long; an item may be a name that no driver
///   would create, if somebody else put it there.
/// - **Unavailable means unknown.** After [`ErrorKind::Unavailable`] and
///   [`ErrorKind::Silent`] the operation may have taken effect, or may do so
///   later. Every other error means that it did not.
/// - **Deleting** what does not exist succeeds.
/// - **Cancelling**: dropping a future abandons the answer, not always the
///   operation; no driver leaves an object half written by it.
/// - Blocking work is done off the caller's thread.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Creates an object unless one of this name exists.
    ///
    /// # Errors
    /// See [`ErrorKind`]; more than [`MAX_OBJECT_BYTES`] are `Misuse`.
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation>;

    /// Reads a whole object.
    ///
    /// # Errors
    /// `NotFound`; `Truncated` if it is larger than [`MAX_OBJECT_BYTES`], which
    /// nobody of ours has written; and see [`ErrorKind`].
    async fn get(&self, name: &str) -> Result<Bytes>;

    /// Reads just these bytes of an object.
    ///
    /// # Errors
    /// `NotFound`; `Truncated` if the object ends before the range does.
    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes>;

    /// The object's size and age.
    ///
    /// # Errors
    /// `NotFound`, and see [`ErrorKind`].
    async fn head(&self, name: &str) -> Result<ObjectInfo>;

    /// Lists the objects whose name begins with `prefix`, which may end within a part.
    fn list<'a>(&'a self, prefix: &str) -> Listing<'a>;

    /// Deletes an object.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    async fn delete(&self, name: &str) -> Result<()>;

    /// Sees to it that the lock of an object lasts: where less than half of what
    /// [`Capabilities::lock`] says is left, it begins anew. Says whether it did. Places
    /// without locks do nothing.
    ///
    /// # Errors
    /// `NotFound`, and see [`ErrorKind`].
    async fn keep(&self, _name: &str) -> Result<bool> {
        Ok(false)
    }

    /// What was found out about the place itself. A driver that has not looked
    /// claims nothing; a wrapper says what the wrapped one says.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        (**self).create(name, bytes).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        (**self).get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        (**self).get_range(name, range).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        (**self).head(name).await
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        (**self).list(prefix)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        (**self).delete(name).await
    }

    async fn keep(&self, name: &str) -> Result<bool> {
        (**self).keep(name).await
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }
}

/// Takes a whole listing into memory, sorted by name.
///
/// # Errors
/// The listing's first error.
pub async fn collect_listing(mut listing: Listing<'_>) -> Result<Vec<ObjectInfo>> {
    let mut objects = Vec::new();
    while let Some(object) = listing.next().await {
        objects.push(object?);
    }
    objects.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(objects)
}

/// Checks that `name` is one that the contract allows.
///
/// # Errors
/// `Misuse` if it is not.
pub fn validate_name(operation: Operation, name: &str) -> Result<()> {
    let fine = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.split('/').all(|part| !part.is_empty() && part.bytes().all(is_name_byte));
    if fine { Ok(()) } else { Err(misuse(operation, name)) }
}

/// Checks that `prefix` is the beginning of a name that the contract allows.
///
/// # Errors
/// `Misuse` if it is not.
pub fn validate_prefix(prefix: &str) -> Result<()> {
    let fine = prefix.len() <= MAX_NAME_BYTES
        && !prefix.starts_with('/')
        && !prefix.contains("//")
        && prefix.bytes().all(|byte| byte == b'/' || is_name_byte(byte));
    if fine { Ok(()) } else { Err(misuse(Operation::List, prefix)) }
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

fn misuse(operation: Operation, name: &str) -> Error {
    Error::new(ErrorKind::Misuse, operation, format!("{name:?}"), "not a valid name")
}

/// Refuses what is larger than the contract allows.
///
/// # Errors
/// `Misuse` if it is.
pub fn validate_size(name: &str, bytes: &Bytes) -> Result<()> {
    if bytes.len() > MAX_OBJECT_BYTES {
        return Err(Error::new(
            ErrorKind::Misuse,
            Operation::Create,
            name,
            format!("{} bytes are more than an object may have", bytes.len()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_store_are_refused() {
        for name in ["", "/a", "a/", "a//b", "..", "a/../b", "A", "a b", "a\0", "a.b", "ü", "a/./b"]
        {
            assert!(validate_name(Operation::Read, name).is_err(), "{name:?}");
        }
        for name in ["a", "config/0", "packs/ff/abc-20260101t000000z-x-0-12"] {
            assert!(validate_name(Operation::Read, name).is_ok(), "{name:?}");
        }
        assert!(validate_name(Operation::Read, &"a".repeat(513)).is_err());
    }

    #[test]
    fn a_prefix_may_end_anywhere_in_a_name() {
        for prefix in ["", "a", "a/", "packs/f", "config/0"] {
            assert!(validate_prefix(prefix).is_ok(), "{prefix:?}");
        }
        for prefix in ["/", "../", "a//", "A"] {
            assert!(validate_prefix(prefix).is_err(), "{prefix:?}");
        }
    }
}
