//! `global/pg_control`: what a server's files say of their state while no server runs on them
//! (`src/include/catalog/pg_control.h`, `ControlFileData`).
//!
//! Its beginning has been the same since 13. What differs is where it ends, with its checksum.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crc_fast::{CrcAlgorithm, checksum};
use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::open_plain;

use crate::lsn::Lsn;
use crate::physical::local;

/// Where the file is, below the data folder.
const FILE: &str = "global/pg_control";
/// Bytes that count: one sector of a disk (`PG_CONTROL_MAX_SAFE_SIZE`).
const BYTES: u64 = 512;
/// Versions that are known, each with the place of its checksum (CRC32C of all before it): those of
/// PostgreSQL 13 to 16, of 17, and of 18.
const VERSIONS: [(u32, usize); 3] = [(1300, 288), (1700, 288), (1800, 292)];
/// A server may be writing while it is read: how often it is read anew, and after what pause.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// Where the members are.
const VERSION_AT: usize = 8;
const STATE_AT: usize = 16;
const CHECKPOINT_AT: usize = 32;
const REDO_AT: usize = 40;
const TIMELINE_AT: usize = 48;

/// What a server's files say of their state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// Who the server is.
    pub system_identifier: u64,
    /// Version of the file: 1300 of PostgreSQL 13 to 16, 1700 of 17, 1800 of 18.
    pub version: u32,
    /// What the server was doing when it was written.
    pub state: ControlState,
    /// Where the record of the latest checkpoint begins, as `0/3000060`.
    pub checkpoint: String,
    /// Where recovery would begin.
    pub redo: String,
    /// The timeline of the latest checkpoint.
    pub timeline: u32,
}

/// What a server does, as `pg_controldata` tells it (`DBState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlState {
    /// `starting up`.
    StartingUp,
    /// `shut down`: in order, as a primary.
    ShutDown,
    /// `shut down in recovery`: in order.
    ShutDownInRecovery,
    /// `shutting down`.
    ShuttingDown,
    /// `in crash recovery`.
    InCrashRecovery,
    /// `in archive recovery`.
    InArchiveRecovery,
    /// `in production`; also what a server left behind that has crashed.
    InProduction,
}

/// Reads it.
///
/// # Errors
/// `LocalFileError`; `DataCorrupted` where its checksum is wrong; `VersionUnsupported`.
pub fn read_control(data_dir: &Path) -> Result<ControlFile, Failure> {
    let path = data_dir.join(FILE);
    let mut tries = 1;
    loop {
        let mut bytes = Vec::new();
        let read = open_plain(&path, OpenOptions::new().read(true))
            .and_then(|file| file.take(BYTES).read_to_end(&mut bytes));
        read.map_err(|error| local(&path, &error))?;
        match parse(&bytes) {
            Err(failure) if failure.reason == Reason::DataCorrupted && tries < TRIES => {
                tries += 1;
                thread::sleep(PAUSE);
            }
            read => {
                let named = |failure: Failure| {
                    let message = format!("{}: {}", path.display(), failure.message);
                    Failure { message, ..failure }
                };
                return read.map_err(named);
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<ControlFile, Failure> {
    let damaged = |why: &str| Failure::new(Reason::DataCorrupted, why);
    let cut = || damaged("it is cut");
    let short = |at: usize| {
        let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
        found.map(|found| u32::from_le_bytes(*found)).ok_or_else(cut)
    };
    let long = |at: usize| {
        let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
        found.map(|found| u64::from_le_bytes(*found)).ok_or_else(cut)
    };
    let version = short(VERSION_AT)?;
    let Some((_, checksum_at)) = VERSIONS.iter().find(|(known, _)| *known == version) else {
        let message = format!("it is of the unknown version {version}");
        return Err(Failure::new(Reason::VersionUnsupported, message));
    };
    let content = bytes.get(..*checksum_at).ok_or_else(cut)?;
    if checksum(CrcAlgorithm::Crc32Iscsi, content) != u64::from(short(*checksum_at)?) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(ControlFile {
        system_identifier: long(0)?,
        version,
        state: state(short(STATE_AT)?).ok_or_else(|| damaged("its state is none"))?,
        checkpoint: Lsn(long(CHECKPOINT_AT)?).to_string(),
        redo: Lsn(long(REDO_AT)?).to_string(),
        timeline: short(TIMELINE_AT)?,
    })
}

fn state(number: u32) -> Option<ControlState> {
    Some(match number {
        0 => ControlState::StartingUp,
        1 => ControlState::ShutDown,
        2 => ControlState::ShutDownInRecovery,
        3 => ControlState::ShuttingDown,
        4 => ControlState::InCrashRecovery,
        5 => ControlState::InArchiveRecovery,
        6 => ControlState::InProduction,
        _ => return None,
    })
}

impl ControlFile {
    /// Whether the server ended in order, and its files are as of one moment.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        matches!(self.state, ControlState::ShutDown | ControlState::ShutDownInRecovery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(version: u32, checksum_at: usize) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(&7_u64.to_le_bytes());
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes[16..20].copy_from_slice(&1_u32.to_le_bytes());
        bytes[32..40].copy_from_slice(&0x16_0000_0028_u64.to_le_bytes());
        bytes[48..52].copy_from_slice(&3_u32.to_le_bytes());
        let sum = checksum(CrcAlgorithm::Crc32Iscsi, &bytes[..checksum_at]);
        bytes[checksum_at..checksum_at + 4]
            .copy_from_slice(&u32::try_from(sum).unwrap().to_le_bytes());
        bytes
    }

    #[test]
    fn it_is_read_where_its_checksum_is_right_and_refused_elsewhere() {
        for (version, checksum_at) in VERSIONS {
            let bytes = control(version, checksum_at);
            let read = parse(&bytes).unwrap();
            assert_eq!((read.system_identifier, read.timeline), (7, 3));
            assert_eq!((read.checkpoint.as_str(), read.is_shut_down()), ("16/28", true));
            for at in 0..checksum_at + 4 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                let reason = parse(&damaged).unwrap_err().reason;
                let expected = if (8..12).contains(&at) {
                    Reason::VersionUnsupported
                } else {
                    Reason::DataCorrupted
                };
                assert_eq!(reason, expected, "{at}");
            }
            for length in 0..checksum_at + 4 {
                assert!(parse(&bytes[..length]).is_err(), "{length}");
            }
        }
    }
}
