//! Names of objects and of sessions (`docs/format.md`, "Names").

use std::fmt;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use jiff::{Timestamp, tz::TimeZone};

use crate::keyring::Keyring;
use crate::{Error, Result};

/// Folder of configs.
pub(crate) const CONFIG: &str = "config/";
/// Folder of key slots.
pub(crate) const KEYS: &str = "keys/";
/// Folder of what says that a key slot is being removed.
pub(crate) const LEAVING: &str = "leaving/";
/// Folder of packs.
pub(crate) const PACKS: &str = "packs/";
/// Folder of meta objects.
pub(crate) const META: &str = "meta/";
/// Folder of heads and tombstones.
pub(crate) const SNAPSHOTS: &str = "snapshots/";
/// Folder of sessions.
pub(crate) const SESSIONS: &str = "sessions/";
/// Folder of heartbeats.
pub(crate) const BEATS: &str = "beats/";
/// Folder of the collector's first step.
pub(crate) const CONDEMNED: &str = "condemned/";
/// Folder of the collector's second step.
pub(crate) const BLOCKERS: &str = "blockers/";
/// Folder of the collector's last step.
pub(crate) const VERDICT: &str = "verdict/";
/// Folder of the collector's memory.
pub(crate) const MARKS: &str = "marks/";
/// Folder of what was decided about snapshots.
pub(crate) const DECISIONS: &str = "decisions/";

/// Folder of requests that were carried out.
pub(crate) const LEDGER: &str = "ledger/";
/// Folder of logs.
pub(crate) const LOGS: &str = "logs/";
/// Folder of snapshots that were written off.
pub(crate) const WRITTEN_OFF: &str = "written-off/";

/// Longest name of a session, in bytes: 8 + 16 + 16, an attempt of 10 digits, three hyphens.
pub(crate) const MAX_SESSION_BYTES: usize = 53;
/// Longest name of a stream, in bytes.
pub const MAX_STREAM_NAME_BYTES: usize = 1024;

const SERIES_CHARACTERS: usize = 8;
const TIME_CHARACTERS: usize = 16;
const RUN_CHARACTERS: usize = 16;

/// All folders that a repository has or will have.
const FOLDERS: [&str; 18] = [
    "config",
    "keys",
    "leaving",
    "packs",
    "meta",
    "snapshots",
    "sessions",
    "beats",
    "condemned",
    "verdict",
    "index",
    "marks",
    "blockers",
    "moved",
    "logs",
    "decisions",
    "written-off",
    "ledger",
];

/// Whether an object of this name may belong to a repository.
pub(crate) fn is_ours(name: &str) -> bool {
    name.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder))
}

/// Lower-case base32 without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// A decimal number without leading zeros.
pub(crate) fn parse_number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A session's name, which is also its snapshot's id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads an id, for instance from a listing.
    ///
    /// # Errors
    /// When it does not have an id's form.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::Misuse(format!("{text:?} is no snapshot's id"));
        let mut parts = text.split('-');
        let lengths = [SERIES_CHARACTERS, TIME_CHARACTERS, RUN_CHARACTERS];
        for length in lengths {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != length || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(bad());
            }
        }
        parts.next().and_then(parse_number).ok_or_else(bad)?;
        if parts.next().is_some() || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad());
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn of_attempt(run: &RunName, attempt: u32) -> Self {
        Self(format!("{}-{attempt}", run.0))
    }

    /// What the names of all sessions of its series begin with, hyphen included.
    pub(crate) fn series_prefix(&self) -> &str {
        self.0.get(..SERIES_CHARACTERS + 1).unwrap_or_default()
    }

    /// The attempt, from 0.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.rsplit_once('-').and_then(|(_, attempt)| parse_number(attempt)).unwrap_or(0)
    }

    /// The slot's time, in whole seconds.
    #[must_use]
    pub fn slot_time(&self) -> Option<Timestamp> {
        let text = self.0.get(SERIES_CHARACTERS + 1..SERIES_CHARACTERS + 1 + TIME_CHARACTERS)?;
        let civil = jiff::civil::DateTime::strptime("%Y%m%dt%H%M%Sz", text).ok()?;
        civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    }

    pub(crate) fn head_name(&self) -> String {
        format!("{SNAPSHOTS}{}", self.0)
    }

    pub(crate) fn session_name(&self) -> String {
        format!("{SESSIONS}{}", self.0)
    }

    pub(crate) fn written_off_name(&self) -> String {
        format!("{WRITTEN_OFF}{}", self.0)
    }

    pub(crate) fn beat_name(&self, n: u32) -> String {
        format!("{BEATS}{}-{n}", self.0)
    }

    pub(crate) fn decision_name(&self, n: u32) -> String {
        format!("{DECISIONS}{}-{n}", self.0)
    }

    /// Whether a session of this series made it.
    pub(crate) fn is_of(&self, keys: &Keyring, series: &str) -> bool {
        self.0.starts_with(&series_prefix(keys, series))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A run's part of its attempts' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunName(String);

impl RunName {
    pub(crate) fn new(keys: &Keyring, series: &str, time: Timestamp, run: &str) -> Result<Self> {
        let utc = time.to_zoned(TimeZone::UTC);
        if !(0..=9999).contains(&utc.year()) {
            return Err(Error::Misuse(format!("the time {time} is out of range")));
        }
        let time = utc.strftime("%Y%m%dt%H%M%Sz");
        let run = base32(&keys.name_mac("run", run.as_bytes())[..10]);
        Ok(Self(format!("{}{time}-{run}", series_prefix(keys, series))))
    }

    /// What the names of all attempts begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}-", self.0)
    }
}

/// What the names of all sessions of a series begin with, hyphen included.
pub(crate) fn series_prefix(keys: &Keyring, series: &str) -> String {
    format!("{}-", base32(&keys.name_mac("series", series.as_bytes())[..5]))
}

/// A pack or meta object: a session and a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartName {
    pub(crate) session: std::sync::Arc<str>,
    pub(crate) n: u32,
}

impl PartName {
    pub(crate) fn new(session: std::sync::Arc<str>, n: u32) -> Self {
        Self { session, n }
    }

    /// Reads the last part of an object's name.
    pub(crate) fn parse(last: &str) -> Option<Self> {
        let (session, n) = last.rsplit_once('-')?;
        SnapshotId::parse(session).ok()?;
        Some(Self::new(std::sync::Arc::from(session), parse_number(n)?))
    }

    /// Whether this session has made it.
    pub(crate) fn is_by(&self, id: &SnapshotId) -> bool {
        *self.session == *id.as_str()
    }

    /// The last part of the object's name.
    pub(crate) fn last_part(&self) -> String {
        format!("{}-{}", self.session, self.n)
    }

    pub(crate) fn pack_object(&self) -> String {
        spread(PACKS, &self.last_part())
    }

    pub(crate) fn meta_object(&self) -> String {
        spread(META, &self.last_part())
    }
}

fn spread(folder: &str, last: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, last.as_bytes());
    format!("{folder}{}/{last}", HEXLOWER.encode(&digest.as_ref()[..1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_name_has_the_documented_form_and_sorts_by_time() {
        let keys = Keyring::for_tests();
        let name = |time: &str| {
            let run = RunName::new(&keys, "c/ns/shop", time.parse().unwrap(), "uid").unwrap();
            SnapshotId::of_attempt(&run, 12)
        };
        let id = name("2026-11-23T02:15:00.9Z");
        assert_eq!(SnapshotId::parse(id.as_str()).unwrap(), id);
        assert_eq!(&id.as_str()[8..26], "-20261123t021500z-");
        assert_eq!(id.slot_time().unwrap().to_string(), "2026-11-23T02:15:00Z");
        assert_eq!(id.attempt(), 12);
        assert!(name("2026-11-24T00:00:00Z") > id);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in
            ["", "a-b-c-0", "aaaaaaaa-20261123t021500z-aaaaaaaaaaaaaaaa-00", "../../etc/passwd"]
        {
            assert!(SnapshotId::parse(text).is_err(), "{text}");
        }
    }
}
