//! What in the log says where one can recover to (`src/include/access/xact.h`,
//! `src/include/catalog/pg_control.h`, `src/include/access/xlog_internal.h`).

use bytes::{Buf, Bytes};
use jiff::{SignedDuration, Timestamp};

use super::block::{BlockChange, Headers};
use super::reader::{RMGR_SMGR, RMGR_XACT, RMGR_XLOG, Record, WalError};
use crate::base::relation_file::RelationId;
use crate::lsn::Lsn;

/// Kinds of records of `xlog`.
const CHECKPOINT_SHUTDOWN: u8 = 0x00;
const CHECKPOINT_ONLINE: u8 = 0x10;
const BACKUP_END: u8 = 0x50;
const PARAMETER_CHANGE: u8 = 0x60;
const RESTORE_POINT: u8 = 0x70;
const END_OF_RECOVERY: u8 = 0x90;
/// Of `smgr`.
const TRUNCATE: u8 = 0x20;
/// Of `xact`, and the flag that says that more follows the time.
const OPERATION: u8 = 0x70;
const HAS_MORE: u8 = 0x80;

/// What more follows the time of a transaction's end (`xinfo`).
const HAS_DATABASE: u32 = 1;
const HAS_SUBTRANSACTIONS: u32 = 2;
const HAS_FILES: u32 = 4;
const HAS_INVALIDATIONS: u32 = 8;
const HAS_PREPARED: u32 = 16;
const HAS_STATISTICS: u32 = 256;

/// 2000-01-01 in seconds since 1970, from which the server counts.
const EPOCH_SECONDS: i64 = 946_684_800;
/// Longest name of a restore point, with its zero.
const NAME_BYTES: usize = 64;

/// One fact of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A transaction took effect, or was given up.
    End {
        committed: bool,
        /// Its number; a prepared transaction's own.
        xid: u32,
        /// When, by the server's clock.
        time: Timestamp,
    },
    /// `pg_create_restore_point`.
    RestorePoint { time: Timestamp, name: String },
    /// A checkpoint; recovery from it begins at `redo`.
    Checkpoint { redo: Lsn },
    /// A base backup that had begun there has ended.
    BackupEnd { start: Lsn },
    /// From here on a standby needs these settings at least.
    Settings(Settings),
    /// A new timeline begins.
    EndOfRecovery { timeline: u32, before: u32 },
    /// A relation was cut to so many pages.
    Truncated { relation: RelationId, pages: u32 },
    /// A page was changed.
    Page(BlockChange),
}

/// Settings that recovery compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) max_connections: i32,
    pub(crate) max_worker_processes: i32,
    pub(crate) max_wal_senders: i32,
    pub(crate) max_prepared_transactions: i32,
    pub(crate) max_locks_per_transaction: i32,
}

/// The facts of a record.
///
/// # Errors
/// When the record is not as its kind wants it.
pub(crate) fn facts_of(record: &Record) -> Result<Vec<Fact>, WalError> {
    let damaged = WalError::Damaged(record.start, "a record is not as its kind wants it");
    let headers = Headers::of(record).ok_or_else(|| damaged.clone())?;
    let mut facts: Vec<Fact> = headers.blocks.into_iter().map(Fact::Page).collect();
    if !matches!(record.rmgr, RMGR_XLOG | RMGR_XACT | RMGR_SMGR) {
        return Ok(facts);
    }
    let data = headers.data_bytes as usize;
    if data > record.body.len() || record.body.len() != record.body_bytes as usize {
        return Err(damaged);
    }
    let data = record.body.slice(record.body.len() - data..);
    let fact = match record.rmgr {
        RMGR_XLOG => of_xlog(record.info, data),
        RMGR_XACT => of_transaction(record, data),
        _ => of_storage(record.info, data),
    };
    facts.extend(fact.ok_or(damaged)?);
    Ok(facts)
}

/// `None` where it is too short; `Some(None)` where it says nothing that is wanted here.
type Read = Option<Option<Fact>>;

fn of_xlog(kind: u8, mut data: Bytes) -> Read {
    let fact = match kind {
        CHECKPOINT_SHUTDOWN | CHECKPOINT_ONLINE => Fact::Checkpoint { redo: lsn(&mut data)? },
        BACKUP_END => Fact::BackupEnd { start: lsn(&mut data)? },
        RESTORE_POINT => {
            let time = time(&mut data)?;
            let name = data.get(..NAME_BYTES)?;
            let end = name.iter().position(|byte| *byte == 0)?;
            Fact::RestorePoint { time, name: String::from_utf8_lossy(&name[..end]).into_owned() }
        }
        PARAMETER_CHANGE => {
            let mut next = || data.try_get_i32_le().ok();
            Fact::Settings(Settings {
                max_connections: next()?,
                max_worker_processes: next()?,
                max_wal_senders: next()?,
                max_prepared_transactions: next()?,
                max_locks_per_transaction: next()?,
            })
        }
        END_OF_RECOVERY => {
            let _ = time(&mut data)?;
            let mut next = || data.try_get_u32_le().ok();
            Fact::EndOfRecovery { timeline: next()?, before: next()? }
        }
        _ => return Some(None),
    };
    Some(Some(fact))
}

fn of_storage(kind: u8, mut data: Bytes) -> Read {
    if kind != TRUNCATE {
        return Some(None);
    }
    let mut next = || data.try_get_u32_le().ok();
    let (pages, tablespace, database, number) = (next()?, next()?, next()?, next()?);
    let relation = RelationId { tablespace, database, number };
    Some(Some(Fact::Truncated { relation, pages }))
}

fn of_transaction(record: &Record, mut data: Bytes) -> Read {
    let (committed, prepared) = match record.info & OPERATION {
        0x00 => (true, false),
        0x20 => (false, false),
        0x30 => (true, true),
        0x40 => (false, true),
        _ => return Some(None),
    };
    let time = time(&mut data)?;
    let more = match record.info & HAS_MORE {
        0 => 0,
        _ => data.try_get_u32_le().ok()?,
    };
    // The record of a prepared transaction's end is of no transaction.
    let xid = if prepared { prepared_xid(record, more, data)? } else { record.xid };
    Some(Some(Fact::End { committed, xid, time }))
}

/// Behind everything else that may follow the time.
fn prepared_xid(record: &Record, more: u32, mut data: Bytes) -> Option<u32> {
    if more & HAS_PREPARED == 0 {
        return None;
    }
    if more & HAS_DATABASE != 0 {
        skip(&mut data, 8)?;
    }
    // Before 18 a statistic was named by 12 bytes, since by 16.
    let statistic = if record.version.major() < 18 { 12 } else { 16 };
    for (flag, bytes) in [
        (HAS_SUBTRANSACTIONS, 4),
        (HAS_FILES, 12),
        (HAS_STATISTICS, statistic),
        (HAS_INVALIDATIONS, 16),
    ] {
        if more & flag != 0 {
            let count = usize::try_from(data.try_get_u32_le().ok()?).ok()?;
            skip(&mut data, count.checked_mul(bytes)?)?;
        }
    }
    data.try_get_u32_le().ok()
}

fn skip(data: &mut Bytes, bytes: usize) -> Option<()> {
    (bytes <= data.len()).then(|| data.advance(bytes))
}

fn lsn(data: &mut Bytes) -> Option<Lsn> {
    data.try_get_u64_le().ok().map(Lsn)
}

fn time(data: &mut Bytes) -> Option<Timestamp> {
    time_of(data.try_get_i64_le().ok()?)
}

/// Microseconds since 2000 as a time. `None` where it is beyond all times.
pub(crate) fn time_of(microseconds: i64) -> Option<Timestamp> {
    let since_2000 = SignedDuration::from_micros(microseconds);
    Timestamp::from_second(EPOCH_SECONDS).ok()?.checked_add(since_2000).ok()
}

/// A time as microseconds since 2000.
pub(crate) fn microseconds_of(time: Timestamp) -> i64 {
    time.as_microsecond().saturating_sub(EPOCH_SECONDS * 1_000_000)
}
