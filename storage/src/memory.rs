//! A store in memory: for tests, and the model that other drivers are compared with.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use crate::{
    Capabilities, Creation, Error, ErrorKind, Listing, ObjectInfo, Operation, Result, Store,
    validate_name, validate_prefix, validate_size,
};

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, (Bytes, SystemTime)>>,
    lock: Option<Duration>,
    /// When the locks of objects began anew.
    kept: Mutex<BTreeMap<String, SystemTime>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that locks for so long, as far as asking when goes: it deletes
    /// what is locked like a bucket with versions, where the object is hidden.
    #[must_use]
    pub fn locking(lock: Duration) -> Self {
        Self { lock: Some(lock), ..Self::default() }
    }

    /// For how long an object is locked yet.
    #[must_use]
    pub fn locked_for(&self, name: &str) -> Option<Duration> {
        let (_, created) = self.find(Operation::Keep, name).ok()?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let since = kept.get(name).copied().unwrap_or(created).elapsed().unwrap_or_default();
        self.lock?.checked_sub(since)
    }

    /// All objects as they stand, for tests that compare or damage them.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.lock().iter().map(|(name, (bytes, _))| (name.clone(), bytes.clone())).collect()
    }

    /// Puts bytes in the place of an object, or of none: what no store does by
    /// itself, for tests of damage.
    pub fn overwrite(&self, name: &str, bytes: Bytes) {
        self.lock().insert(name.to_owned(), (bytes, SystemTime::now()));
    }

    /// Makes all objects older: time that passes, for tests of what waits for it.
    pub fn age(&self, by: Duration) {
        for (_, modified) in self.lock().values_mut() {
            *modified -= by;
        }
        for since in self.kept.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
            *since -= by;
        }
    }

    // A panic while the lock is held cannot leave the map half changed.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Bytes, SystemTime)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, operation: Operation, name: &str) -> Result<(Bytes, SystemTime)> {
        validate_name(operation, name)?;
        self.lock()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, operation, name, "no such object"))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        validate_name(Operation::Create, name)?;
        validate_size(name, &bytes)?;
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Ok(Creation::Exists);
        }
        objects.insert(name.to_owned(), (bytes, SystemTime::now()));
        Ok(Creation::Created)
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        Ok(self.find(Operation::Read, name)?.0)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let (bytes, _) = self.find(Operation::Read, name)?;
        let within = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .filter(|(start, end)| start <= end && *end <= bytes.len());
        let Some((start, end)) = within else {
            let detail = format!("{} bytes end before byte {}", bytes.len(), range.end);
            return Err(Error::new(ErrorKind::Truncated, Operation::Read, name, detail));
        };
        Ok(bytes.slice(start..end))
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        let (bytes, modified) = self.find(Operation::Head, name)?;
        Ok(ObjectInfo { name: name.to_owned(), size: bytes.len() as u64, modified })
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        let found: Vec<Result<ObjectInfo>> = match validate_prefix(prefix) {
            Err(error) => vec![Err(error)],
            Ok(()) => self
                .lock()
                .range(prefix.to_owned()..)
                .take_while(|(name, _)| name.starts_with(prefix))
                .map(|(name, (bytes, modified))| {
                    Ok(ObjectInfo {
                        name: name.clone(),
                        size: bytes.len() as u64,
                        modified: *modified,
                    })
                })
                .collect(),
        };
        futures::stream::iter(found).boxed()
    }

    async fn delete(&self, name: &str) -> Result<()> {
        validate_name(Operation::Delete, name)?;
        self.lock().remove(name);
        Ok(())
    }

    async fn keep(&self, name: &str) -> Result<bool> {
        self.find(Operation::Keep, name)?;
        let Some(lock) = self.lock else { return Ok(false) };
        if self.locked_for(name).is_some_and(|left| left >= lock / 2) {
            return Ok(false);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(name.to_owned(), SystemTime::now());
        Ok(true)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lock: self.lock, ..Capabilities::LOCAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_store_keeps_the_contract() {
        crate::check_conformance(std::sync::Arc::new(MemoryStore::new())).await.unwrap();
    }
}
