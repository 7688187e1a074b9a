//! Reading a log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

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
    pub(super) inner: Arc<Inner>,
    pub(super) log: LogId,
    pub(super) parts: Vec<LogPart>,
    /// Those that others replace, and that are there yet.
    pub(super) replaced: Vec<LogPart>,
    /// When each of both was created, by the store's clock.
    pub(super) created: BTreeMap<u32, SystemTime>,
}

impl Repository {
    /// Reads what the parts of a log are, not their bytes. What is tidied away meanwhile is as if
    /// it had gone before.
    ///
    /// # Errors
    /// `RepositoryDamaged` where a part cannot be read or is not the successor of the one before;
    /// `ObjectMissing` where one is gone that no other replaces.
    pub async fn read_log(&self, log: &LogId) -> Result<LogReader> {
        let inner = Arc::clone(&self.inner);
        let listed = collect_listing(inner.store.list(&log.folder())).await?;
        let numbers = numbers_in(log, listed);
        // Each has its own: a future that borrows both cannot be sent to another thread.
        let reading = stream::iter(numbers).map(|(number, object)| {
            let (inner, log) = (Arc::clone(&inner), log.clone());
            async move {
                match LogReader::about_of(&inner, &log, number, object.size).await {
                    Ok(part) => Ok(Found { number, part: Some((part, object.modified)) }),
                    Err(Error::Missing(_)) => Ok(Found { number, part: None }),
                    Err(error) => Err(error),
                }
            }
        });
        let found: Vec<Found> = reading.buffered(AT_ONCE).try_collect().await?;
        let (parts, created) = still_there(found);
        nothing_missing(log, &parts)?;
        let (replaced, parts) = replaced_and_not(parts);
        Ok(LogReader { inner, log: log.clone(), parts, replaced, created })
    }
}

impl Repository {
    /// One part with its bytes; `None` where there is none of this number.
    ///
    /// # Errors
    /// `RepositoryDamaged`, or what the store says.
    pub async fn log_part(&self, log: &LogId, number: u32) -> Result<Option<(LogPart, Bytes)>> {
        LogReader::whole(&self.inner, log, number).await
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

    /// The bytes of a part; `None` where it is gone, or cannot be opened.
    pub(super) async fn readable(&self, number: u32) -> Result<Option<Bytes>> {
        match Self::whole(&self.inner, &self.log, number).await {
            Ok(found) => Ok(found.map(|(_, bytes)| bytes)),
            Err(Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn whole(inner: &Inner, log: &LogId, number: u32) -> Result<Option<(LogPart, Bytes)>> {
        let Some(object) = inner.find(&log.object(number)).await? else { return Ok(None) };
        match open_about(inner, log, number, &object)? {
            Opened::Part(part) => {
                let content = open_content(inner, log, &part, &object)?;
                Ok(Some((*part, content)))
            }
            Opened::Longer(_) => Err(Error::damaged(log.object(number), "it is cut")),
        }
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

/// A part that was listed; `part` is none where it was gone when it was read.
struct Found {
    number: u32,
    part: Option<(LogPart, SystemTime)>,
}

/// Numbers of parts, with their objects. What has another name is no part.
pub(super) fn numbers_in(log: &LogId, listed: Vec<ObjectInfo>) -> BTreeMap<u32, ObjectInfo> {
    let folder = log.folder();
    let number = |object: &ObjectInfo| parse_number(object.name.strip_prefix(&folder)?);
    listed.into_iter().filter_map(|object| Some((number(&object)?, object))).collect()
}

/// What is left of what was listed. The oldest go in the order of their numbers: where one has gone
/// that nothing replaces, those before it have gone, too, though they were read.
fn still_there(found: Vec<Found>) -> (Vec<LogPart>, BTreeMap<u32, SystemTime>) {
    let replaced = Replaced::by(found.iter().filter_map(|found| Some(&found.part.as_ref()?.0)));
    let went = |found: &&Found| found.part.is_none() && replaced.covering(found.number).is_none();
    let gone = found.iter().filter(went).map(|found| found.number).max();
    let (mut parts, mut created) = (Vec::new(), BTreeMap::new());
    for Found { number, part } in found {
        if let Some((part, time)) = part.filter(|_| gone.is_none_or(|gone| number > gone)) {
            parts.push(part);
            created.insert(number, time);
        }
    }
    (parts, created)
}

/// Each part follows the one before it, or what is missing between them was replaced.
fn nothing_missing(log: &LogId, parts: &[LogPart]) -> Result<()> {
    let replaced = Replaced::by(parts);
    for pair in parts.windows(2) {
        let [before, part] = pair else { continue };
        let is_next = before.number.checked_add(1) == Some(part.number);
        if is_next && part.previous.as_deref() != Some(before.tag.as_str()) {
            let message = "it does not follow the part before it";
            return Err(Error::damaged(log.object(part.number), message));
        }
        let mut number = before.number.saturating_add(1);
        while number < part.number {
            match replaced.covering(number) {
                Some(range) => number = range.last.saturating_add(1),
                None => return Err(Error::Missing(log.object(number))),
            }
        }
    }
    Ok(())
}

/// Those that another one replaces, and those that none does.
fn replaced_and_not(parts: Vec<LogPart>) -> (Vec<LogPart>, Vec<LogPart>) {
    let replaced = Replaced::by(&parts);
    parts.into_iter().partition(|part| replaced.covering(part.number).is_some())
}

/// The numbers that parts replace: ranges in their order, none of which touch.
struct Replaced(Vec<PartNumbers>);

impl Replaced {
    fn by<'p>(parts: impl IntoIterator<Item = &'p LogPart>) -> Self {
        let mut ranges: Vec<_> = parts.into_iter().filter_map(|part| part.replaces).collect();
        ranges.sort_by_key(|range| range.first);
        let mut merged: Vec<PartNumbers> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    fn covering(&self, number: u32) -> Option<PartNumbers> {
        let behind = self.0.partition_point(|range| range.first <= number);
        self.0[..behind].last().copied().filter(|range| range.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(number: u32, replaces: Option<(u32, u32)>) -> Found {
        let part = LogPart {
            number,
            time: "2026-11-30T12:00:00Z".parse().unwrap(),
            replaces: replaces.map(|(first, last)| PartNumbers { first, last }),
            bytes: 0,
            about: serde_json::Value::Null,
            previous: None,
            tag: String::new(),
            content_at: 0,
        };
        Found { number, part: Some((part, SystemTime::UNIX_EPOCH)) }
    }

    fn left(found: Vec<Found>) -> Vec<u32> {
        let (parts, created) = still_there(found);
        let numbers: Vec<u32> = parts.iter().map(|part| part.number).collect();
        assert!(created.keys().eq(&numbers));
        numbers
    }

    #[test]
    fn what_is_tidied_away_while_it_is_read_is_as_if_it_had_gone_before() {
        let gone = |number| Found { number, part: None };
        let all = |numbers: &[u32]| numbers.iter().map(|number| found(*number, None)).collect();
        assert_eq!(left(all(&[1, 2, 3])), [1, 2, 3]);
        // Some of the oldest were read before they went.
        let mut some: Vec<Found> = all(&[1, 2]);
        some.extend([gone(3), gone(4), found(5, None), found(6, None)]);
        assert_eq!(left(some), [5, 6]);
        // A piece that another part has again says nothing of those before it.
        let mut some: Vec<Found> = all(&[1, 2]);
        some.extend([gone(3), found(4, None), found(5, Some((3, 4)))]);
        assert_eq!(left(some), [1, 2, 4, 5]);
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let parts = [(9, (3, 5)), (12, (6, 7)), (20, (10, 11)), (30, (4, 4))];
        let parts = parts.map(|(number, range)| found(number, Some(range)).part.unwrap().0);
        let replaced = Replaced::by(&parts);
        let covering = |number| replaced.covering(number).map(|range| (range.first, range.last));
        let expected = [None, Some((3, 7)), Some((3, 7)), None, None, Some((10, 11)), None];
        assert_eq!([2, 3, 7, 8, 9, 10, 12].map(covering), expected);
    }
}
