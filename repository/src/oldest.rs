//! The oldest objects of a folder, where anybody who may create can add more: his are
//! newer than ours by the store's own times.

use std::collections::BinaryHeap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dbbackup_storage::{ObjectInfo, Store};
use futures::{StreamExt, TryStreamExt as _};

use crate::{Error, Result};

/// How many are read at the same time: each is small, and takes little but the answer's time.
const READS_AT_ONCE: usize = 16;

/// Objects of a folder, the oldest first.
pub(crate) struct Oldest {
    pub(crate) objects: Vec<ObjectInfo>,
    /// How many are newer than all of these.
    pub(crate) left_out: u64,
}

/// By what objects are put in order: those without a time are last.
type Age = (bool, SystemTime, String, u64);

/// The `most` oldest objects below `folder` whose name is one of `ours`. Only those are
/// kept in memory, however long the listing is.
pub(crate) async fn oldest(
    store: &dyn Store,
    folder: &str,
    most: usize,
    ours: impl Fn(&str) -> bool,
) -> Result<Oldest> {
    let mut listing = store.list(folder);
    let mut kept: BinaryHeap<Age> = BinaryHeap::new();
    let (mut left_out, mut foreign) = (0, 0_u64);
    while let Some(object) = listing.next().await {
        let ObjectInfo { name, size, modified } = object?;
        if !ours(&name) {
            foreign += 1;
            continue;
        }
        kept.push((modified <= UNIX_EPOCH, modified, name, size));
        if kept.len() > most {
            kept.pop();
            left_out += 1;
        }
    }
    // One line, however many there are.
    if foreign > 0 {
        tracing::warn!(folder, objects = foreign, "skipped what has no name of ours");
    }
    if left_out > 0 {
        tracing::warn!(folder, read = most, left_out, "only the oldest objects are read");
    }
    let objects = kept.into_sorted_vec().into_iter();
    let objects =
        objects.map(|(_, modified, name, size)| ObjectInfo { name, size, modified }).collect();
    Ok(Oldest { objects, left_out })
}

/// Reads objects, in their order, of which none may be larger: each with its bytes, or why
/// it has none. One that goes meanwhile is left out.
///
/// # Errors
/// What the store says.
pub(crate) async fn read_each(
    store: &dyn Store,
    objects: Vec<ObjectInfo>,
    largest: usize,
) -> Result<Vec<(ObjectInfo, Result<Bytes>)>> {
    let reading = objects.into_iter().map(|object| async move {
        let read = read_one(store, &object, largest).await?;
        Ok::<_, Error>(read.map(|bytes| (object, bytes)))
    });
    let read: Vec<_> = futures::stream::iter(reading).buffered(READS_AT_ONCE).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

async fn read_one(
    store: &dyn Store,
    object: &ObjectInfo,
    largest: usize,
) -> Result<Option<Result<Bytes>>> {
    if object.size > largest as u64 {
        return Ok(Some(Err(Error::damaged(&object.name, "it is too large"))));
    }
    match store.get(&object.name).await.map_err(Error::needed) {
        Err(Error::Missing(_)) => Ok(None),
        Err(error @ Error::Damaged { .. }) => Ok(Some(Err(error))),
        read => Ok(Some(Ok(read?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbbackup_storage::MemoryStore;
    use std::time::Duration;

    #[tokio::test]
    async fn the_oldest_are_kept_and_those_without_a_time_come_last() {
        let store = MemoryStore::new();
        store.overwrite("x/timeless", "x".into());
        store.age(Duration::from_hours(24 * 365 * 100));
        for name in ["x/d", "x/foreign", "x/b", "x/c", "x/a"] {
            store.overwrite(name, "x".into());
            store.age(Duration::from_secs(10));
        }
        for (most, expected, newer) in [
            (9, &["x/d", "x/b", "x/c", "x/a", "x/timeless"][..], 0),
            (4, &["x/d", "x/b", "x/c", "x/a"], 1),
            (2, &["x/d", "x/b"], 3),
        ] {
            let found = oldest(&store, "x/", most, |name| name != "x/foreign").await.unwrap();
            let names: Vec<_> = found.objects.iter().map(|object| &object.name[..]).collect();
            assert_eq!((&names[..], found.left_out), (expected, newer));
        }
    }
}
