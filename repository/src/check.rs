//! Checking a repository: is everything there, whole, and what does a damage touch.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::PartName;
use crate::pack::PackEntry;
use crate::recipe::{End, RunReader};
use crate::repository::{Inner, Repository};
use crate::snapshot::Snapshot;
use crate::spans::spans;
use crate::stream_reader::decode_block;
use crate::tables::StreamEntry;
use crate::{Error, Result, SnapshotId};

/// How far a check goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckLevel {
    /// Heads and recipes can be read; packs are there with the right size.
    Structure,
    /// Packs' footers open as well.
    Footers,
    /// All data is read, opened, unpacked and compared with its ids.
    Data,
}

/// Something that is wrong, and what it touches.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong.
    pub error: Error,
    /// The snapshot that it touches.
    pub snapshot: SnapshotId,
    /// Streams of it that cannot be restored. Empty if the snapshot's tables
    /// themselves cannot be read: then none can.
    pub streams: Vec<String>,
}

/// What a check has found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Packs that were looked at.
    pub packs: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// What is wrong; nothing if all is well.
    pub problems: Vec<Problem>,
}

impl Repository {
    /// Checks every snapshot. Each pack is read once.
    ///
    /// # Errors
    /// Only what the store says when it is not available: damage is reported.
    pub async fn check(&self, level: CheckLevel) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        let list = self.snapshots(None).await?;
        for (snapshot, error) in list.unreadable {
            report.problems.push(Problem { error, snapshot, streams: Vec::new() });
        }
        let mut bad_packs: BTreeMap<PartName, Option<Error>> = BTreeMap::new();
        for snapshot in &list.snapshots {
            report.snapshots += 1;
            if let Err(error) =
                self.check_snapshot(snapshot, level, &mut bad_packs, &mut report).await
            {
                if let Error::Storage(_) = error {
                    return Err(error);
                }
                let id = snapshot.id().clone();
                report.problems.push(Problem { error, snapshot: id, streams: Vec::new() });
            }
        }
        Ok(report)
    }

    async fn check_snapshot(
        &self,
        snapshot: &Snapshot,
        level: CheckLevel,
        known: &mut BTreeMap<PartName, Option<Error>>,
        report: &mut CheckReport,
    ) -> Result<()> {
        let inner = &*self.inner;
        let packs = snapshot.packs().await?;
        let mut bad = BTreeMap::new();
        for (number, pack) in packs.iter().enumerate().filter(|(_, pack)| pack.is_used()) {
            let name = &pack.entry.name;
            if !known.contains_key(name) {
                let checked = check_pack(inner, &pack.entry, level).await;
                report.packs += 1;
                report.bytes_read += checked.as_ref().copied().unwrap_or(0);
                let error = match checked {
                    Err(error @ Error::Storage(_)) => return Err(error),
                    checked => checked.err(),
                };
                known.insert(name.clone(), error);
            }
            if let Some(Some(error)) = known.get(name) {
                bad.insert(number as u32, error.clone());
            }
        }
        let mut entries = Vec::new();
        snapshot.for_each_entry("", |entry| entries.push(entry.clone())).await?;
        let mut touched: BTreeMap<String, (Error, BTreeSet<String>)> = BTreeMap::new();
        for entry in entries {
            let mut note = |error: Error| {
                let (_, streams) =
                    touched.entry(error.to_string()).or_insert_with(|| (error, BTreeSet::new()));
                streams.insert(entry.name.clone());
            };
            match used_packs(inner, snapshot, &entry, &bad).await {
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(error) => note(error),
                Ok(numbers) => {
                    for error in numbers.iter().filter_map(|number| bad.get(number)) {
                        note(error.clone());
                    }
                }
            }
        }
        for (error, streams) in touched.into_values() {
            let streams = streams.into_iter().collect();
            report.problems.push(Problem { error, snapshot: snapshot.id().clone(), streams });
        }
        Ok(())
    }
}

/// Looks at one pack; returns the bytes that were read of it.
async fn check_pack(inner: &Inner, entry: &PackEntry, level: CheckLevel) -> Result<u64> {
    let name = entry.name.pack_object();
    let found = inner.store.head(&name).await.map_err(Error::needed)?;
    if found.size != u64::from(entry.size) {
        let detail = format!("it has {} bytes instead of {}", found.size, entry.size);
        return Err(Error::damaged(name, detail));
    }
    let start = entry.block_table_at as usize;
    let end = start + (entry.block_table_bytes + entry.chunk_table_bytes) as usize;
    match level {
        CheckLevel::Structure => Ok(0),
        CheckLevel::Footers => {
            let range = start as u64..end as u64;
            let bytes = inner.store.get_range(&name, range).await.map_err(Error::needed)?;
            entry.open_footer(&inner.keys, &bytes)?;
            Ok(bytes.len() as u64)
        }
        CheckLevel::Data => {
            let object = inner.store.get(&name).await.map_err(Error::needed)?;
            entry.check_ends(&inner.keys, &object)?;
            let cut = || Error::damaged(&name, "it is cut");
            let footer = entry.open_footer(&inner.keys, object.get(start..end).ok_or_else(cut)?)?;
            let seal = entry.seal(&inner.keys)?;
            for (number, info) in (0..).zip(&footer.blocks) {
                let frame = object
                    .get(info.at as usize..(info.at + info.stored) as usize)
                    .ok_or_else(cut)?;
                let plain = decode_block(&seal, number, info, frame)?;
                let mut rest = &plain[..];
                for n in info.first_chunk..info.first_chunk + info.chunks {
                    let (id, length) = footer.chunks.get(n as usize).ok_or_else(cut)?;
                    let (chunk, behind) = rest.split_at(length as usize);
                    rest = behind;
                    if inner.keys.chunk_id(chunk) != id {
                        let detail = format!("chunk {n} is not the one that its id names");
                        return Err(Error::damaged(&name, detail));
                    }
                }
            }
            let padding_at = footer.blocks.last().map_or(40, |last| last.at + last.stored) as usize;
            if padding_at < start {
                let mut padding = object.get(padding_at..start).ok_or_else(cut)?.to_vec();
                seal.open(footer.blocks.len() as u64, false, &mut padding)?;
            }
            Ok(object.len() as u64)
        }
    }
}

/// The packs that a stream needs. Where blocks of a bad pack are unknown, the
/// rest of that segment is not followed.
async fn used_packs(
    inner: &Inner,
    snapshot: &Snapshot,
    entry: &StreamEntry,
    bad: &BTreeMap<u32, Error>,
) -> Result<BTreeSet<u32>> {
    let mut used = BTreeSet::new();
    let packs = snapshot.packs().await?;
    let malformed = |error: crate::wire::Malformed| {
        Error::damaged(format!("the recipe of {:?}", entry.name), error.to_string())
    };
    for segment in &entry.segments {
        let runs = inner.piece(&segment.place, snapshot.metas()).await?;
        let mut reader = RunReader::new(&runs);
        let mut end = End::default();
        while let Some(run) = reader.next(end).map_err(malformed)? {
            used.insert(run.pack);
            let pack = packs
                .get(run.pack as usize)
                .ok_or_else(|| malformed(crate::wire::Malformed("it names a pack that is none")))?;
            match inner.footers.blocks(inner, &pack.entry).await {
                Ok(blocks) => end = spans(&run, &blocks).map_err(malformed)?.1,
                Err(_) if bad.contains_key(&run.pack) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(used)
}
