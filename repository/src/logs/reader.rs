//! Reading a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dbbackup_storage::{ObjectInfo, collect_listing};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::LogId;
use super::part::{FIRST_BYTES, LogPart, Opened, PartNumbers, open_about, open_content};
use crate::names::parse_number;
use crate::repository::{Inner, Repository};
use crate::{Error, Result};

/// Parts that are asked for at once.
const AT_ONCE: usize = 16;

/// The parts of a log, as they were when it was opened.
#[derive(Debug)]
pub struct LogReader {
    inner: Arc<Inner>,
    log: LogId,
    parts: Vec<LogPart>,
}

impl Repository {
    /// Reads what the parts of a log are, not their bytes.
    ///
    /// # Errors
    /// `RepositoryDamaged` where a part cannot be read or is not the successor of the one before;
    /// `ObjectMissing` where one is gone that no other replaces.
    pub async fn read_log(&self, log: &LogId) -> Result<LogReader> {
        let inner = Arc::clone(&self.inner);
        let listed = collect_listing(inner.store.list(&log.folder())).await?;
        let numbers = numbers_in(log, &listed);
        // Each has its own: a future that borrows both cannot be sent to another thread.
        let reading = stream::iter(numbers).map(|(number, size)| {
            let (inner, log) = (Arc::clone(&inner), log.clone());
            async move { LogReader::about_of(&inner, &log, number, size).await }
        });
        let parts: Vec<LogPart> = reading.buffered(AT_ONCE).try_collect().await?;
        nothing_missing(log, &parts)?;
        Ok(LogReader { inner, log: log.clone(), parts: without_replaced(parts) })
    }
}

impl Repository {
    /// One part with its bytes; `None` where there is none of this number.
    ///
    /// # Errors
    /// `RepositoryDamaged`, or what the store says.
    pub async fn log_part(&self, log: &LogId, number: u32) -> Result<Option<(LogPart, Bytes)>> {
        let inner = &self.inner;
        let Some(object) = inner.find(&log.object(number)).await? else { return Ok(None) };
        match open_about(inner, log, number, &object)? {
            Opened::Part(part) => {
                let content = open_content(inner, log, &part, &object)?;
                Ok(Some((*part, content)))
            }
            Opened::Longer(_) => Err(Error::damaged(log.object(number), "it is cut")),
        }
    }
}

impl LogReader {
    /// The parts by their numbers, without those that another one replaces.
    #[must_use]
    pub fn parts(&self) -> &[LogPart] {
        &self.parts
    }

    /// The bytes of a part.
    ///
    /// # Errors
    /// `RepositoryDamaged`, `ObjectMissing`, or what the store says.
    pub async fn content(&self, part: &LogPart) -> Result<Bytes> {
        let object = self.inner.store.get(&self.log.object(part.number)).await;
        open_content(&self.inner, &self.log, part, &object.map_err(Error::needed)?)
    }

    pub(super) async fn about(inner: &Inner, log: &LogId, number: u32) -> Result<LogPart> {
        let found = inner.store.head(&log.object(number)).await.map_err(Error::needed)?;
        Self::about_of(inner, log, number, found.size).await
    }

    async fn about_of(inner: &Inner, log: &LogId, number: u32, size: u64) -> Result<LogPart> {
        let name = log.object(number);
        let mut wanted = FIRST_BYTES.min(size);
        loop {
            let start = inner.store.get_range(&name, 0..wanted).await.map_err(Error::needed)?;
            match open_about(inner, log, number, &start)? {
                Opened::Part(part) => return Ok(*part),
                Opened::Longer(more) if more <= size => wanted = more,
                Opened::Longer(_) => return Err(Error::damaged(name, "it is cut")),
            }
        }
    }
}

/// Numbers of parts, with the sizes of their objects. What has another name is no part.
pub(super) fn numbers_in(log: &LogId, listed: &[ObjectInfo]) -> BTreeMap<u32, u64> {
    let folder = log.folder();
    let number = |object: &ObjectInfo| parse_number(object.name.strip_prefix(&folder)?);
    listed.iter().filter_map(|object| Some((number(object)?, object.size))).collect()
}

/// Each part follows the one before it, or what is missing between them was replaced.
fn nothing_missing(log: &LogId, parts: &[LogPart]) -> Result<()> {
    let replaced: Vec<PartNumbers> = parts.iter().filter_map(|part| part.replaces).collect();
    for pair in parts.windows(2) {
        let [before, part] = pair else { continue };
        let is_next = before.number.checked_add(1) == Some(part.number);
        if is_next && part.previous.as_deref() != Some(before.tag.as_str()) {
            let message = "it does not follow the part before it";
            return Err(Error::damaged(log.object(part.number), message));
        }
        let mut number = before.number.saturating_add(1);
        while number < part.number {
            let covering = replaced.iter().filter(|range| range.contains(number));
            match covering.map(|range| range.last).max() {
                Some(last) => number = last.saturating_add(1),
                None => return Err(Error::Missing(log.object(number))),
            }
        }
    }
    Ok(())
}

fn without_replaced(parts: Vec<LogPart>) -> Vec<LogPart> {
    let replaced: Vec<PartNumbers> = parts.iter().filter_map(|part| part.replaces).collect();
    let is_replaced = |part: &LogPart| replaced.iter().any(|range| range.contains(part.number));
    parts.into_iter().filter(|part| !is_replaced(part)).collect()
}
