//! Importing: which snapshots of a repository the cluster does not know.
//!
//! A task has room for 64 KiB and a report for 256 KiB, however many snapshots there
//! are: the constants here bound both lists.

use std::collections::HashSet;

use data_encoding::BASE64_NOPAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{BackupReport, Failure, Reason};

/// Most known snapshots that a task names: the newest ones. They take 40 kB.
pub const MAX_KNOWN_SNAPSHOTS: usize = 10_000;
/// Most snapshots that a report tells of: the newest ones. The rest comes the next time.
pub const MAX_FOUND_SNAPSHOTS: usize = 250;
/// Most bytes that their list takes as JSON.
pub const MAX_FOUND_BYTES: usize = 224 * 1024;
/// Most databases that a report tells of one of them, failures first.
pub const MAX_FOUND_DATABASES: usize = 10;

/// Bytes of a fingerprint. Of 10,000 snapshots one in 1,700 unknown ones has the
/// fingerprint of another, and is found in the next run, which has another salt.
const FINGERPRINT_BYTES: usize = 3;

type Fingerprint = [u8; FINGERPRINT_BYTES];

/// Look for snapshots in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ImportAction {
    /// All but those that are known.
    Unknown {
        /// What is known.
        known: KnownSnapshots,
    },
    /// Just this one.
    One {
        /// Its whole id.
        snapshot: String,
    },
}

/// Snapshots that the cluster knows, as short fingerprints of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownSnapshots {
    /// What the fingerprints are made with: another one in each run.
    pub salt: String,
    /// The fingerprints, one behind the other, in base64.
    pub fingerprints: String,
}

/// Fingerprints to look snapshots up in.
#[derive(Debug)]
pub struct KnownIndex {
    salt: String,
    fingerprints: HashSet<Fingerprint>,
}

/// What was looked for, and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportReport {
    /// What was found, the newest first: at most [`MAX_FOUND_SNAPSHOTS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<FoundSnapshot>,
    /// How many more there are, all of them older.
    pub more: u64,
    /// Unknown ones whose heads cannot be read.
    pub unreadable: u64,
    /// Why it could not be found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A backup of databases that was found in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundSnapshot {
    /// Its id.
    pub id: String,
    /// Its series.
    pub series: String,
    /// The run that made it.
    pub run_id: String,
    /// The run's slot.
    pub slot_time: Timestamp,
    /// Whether the repository keeps it whatever retention says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// What was committed with it, as far as there is room for it.
    pub report: BackupReport,
}

impl KnownSnapshots {
    /// Of these ids. Of more than there is room for the newest count.
    #[must_use]
    pub fn of<'a>(salt: &str, ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ids: Vec<&str> = ids.into_iter().collect();
        ids.sort_by(|a, b| (slot_in(b), b).cmp(&(slot_in(a), a)));
        ids.dedup();
        ids.truncate(MAX_KNOWN_SNAPSHOTS);
        let bytes: Vec<u8> = ids.iter().flat_map(|id| fingerprint(salt, id)).collect();
        Self { salt: salt.to_owned(), fingerprints: BASE64_NOPAD.encode(&bytes) }
    }

    /// The fingerprints, to look snapshots up in.
    ///
    /// # Errors
    /// `TaskInvalid`.
    pub fn index(&self) -> Result<KnownIndex, Failure> {
        let invalid = |why: String| {
            Failure::new(Reason::TaskInvalid, format!("the known snapshots cannot be read: {why}"))
        };
        let bytes = BASE64_NOPAD.decode(self.fingerprints.as_bytes());
        let bytes = bytes.map_err(|error| invalid(error.to_string()))?;
        let (whole, rest) = bytes.as_chunks::<FINGERPRINT_BYTES>();
        if !rest.is_empty() {
            return Err(invalid(format!("{} bytes are no fingerprints", bytes.len())));
        }
        Ok(KnownIndex { salt: self.salt.clone(), fingerprints: whole.iter().copied().collect() })
    }
}

impl KnownIndex {
    /// Whether a snapshot is known, or has the fingerprint of one that is.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.fingerprints.contains(&fingerprint(&self.salt, id))
    }
}

impl ImportReport {
    /// Of these, the newest first: as many as there is room for.
    #[must_use]
    pub fn of(mut found: Vec<FoundSnapshot>, more: u64, unreadable: u64) -> Self {
        let mut left = MAX_FOUND_BYTES;
        let mut fits = |one: &&FoundSnapshot| {
            let bytes = serde_json::to_vec(one).map_or(usize::MAX, |json| json.len() + 1);
            left.checked_sub(bytes).inspect(|rest| left = *rest).is_some()
        };
        let room = found.iter().take(MAX_FOUND_SNAPSHOTS).take_while(|one| fits(one)).count();
        let more = more.saturating_add((found.len() - room) as u64);
        found.truncate(room);
        Self { found, more, unreadable, error: None }
    }
}

/// The part of a snapshot's id that tells its slot: it sorts as time does.
fn slot_in(id: &str) -> Option<&str> {
    id.split('-').nth(1)
}

fn fingerprint(salt: &str, id: &str) -> Fingerprint {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(id).finalize();
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(&digest[..FINGERPRINT_BYTES]);
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Action, DatabaseOutcome, DatabaseReport, MAX_TASK_BYTES, Message, Report, ReportBody,
    };

    fn id(n: usize) -> String {
        let slot = Timestamp::from_second(1_760_000_000 + n as i64 * 60).unwrap();
        format!("aaaaaaaa-{}-aaaaaaaaaaaaaaaa-0", slot.strftime("%Y%m%dt%H%M%Sz"))
    }

    #[test]
    fn the_newest_known_snapshots_are_found_again_and_others_are_not() {
        let ids: Vec<_> = (0..MAX_KNOWN_SNAPSHOTS + 500).map(id).collect();
        let known = KnownSnapshots::of("uid/1", ids.iter().map(String::as_str));
        let index = known.index().unwrap();
        assert!(ids[500..].iter().all(|id| index.has(id)));
        let older = ids[..500].iter().filter(|id| index.has(id)).count();
        assert!(older < 10, "{older} of 500");
        // Another salt makes another collision.
        let again = KnownSnapshots::of("uid/2", ids.iter().map(String::as_str)).index().unwrap();
        assert_eq!(ids[..500].iter().filter(|id| index.has(id) && again.has(id)).count(), 0);
    }

    #[test]
    fn fingerprints_that_are_none_are_refused() {
        for fingerprints in ["?", "AAAAAA"] {
            let known = KnownSnapshots { salt: "s".into(), fingerprints: fingerprints.into() };
            assert_eq!(known.index().unwrap_err().reason, Reason::TaskInvalid, "{fingerprints}");
        }
    }

    #[test]
    fn a_task_with_the_most_known_snapshots_leaves_room_for_the_rest_of_it() {
        let ids: Vec<_> = (0..MAX_KNOWN_SNAPSHOTS).map(id).collect();
        let known = KnownSnapshots::of(&"s".repeat(64), ids.iter().map(String::as_str));
        let json = serde_json::to_vec(&Action::Import(ImportAction::Unknown { known })).unwrap();
        assert!(json.len() < MAX_TASK_BYTES - 16 * 1024, "{}", json.len());
    }

    #[test]
    fn a_report_with_the_most_and_longest_snapshots_fits_a_message() {
        let long = "\"".repeat(100_000);
        let database = DatabaseReport {
            error: Some(Failure::new(Reason::ClientFailed, long.clone()).with_hint(long.clone())),
            ..DatabaseReport::new(long.clone(), DatabaseOutcome::Failed)
        };
        let mut report = crate::bounded::tests::report();
        report.databases = vec![database; 200];
        report.error = Some(Failure::new(Reason::DatabaseFailed, long.clone()));
        let one = FoundSnapshot {
            id: long.clone(),
            series: long.clone(),
            run_id: long,
            slot_time: Timestamp::UNIX_EPOCH,
            pinned: false,
            report,
        };
        let found = vec![one.bounded(MAX_FOUND_DATABASES); MAX_FOUND_SNAPSHOTS];
        let mut report = ImportReport::of(found, 3, u64::MAX);
        assert!(report.found.len() > 15, "{}", report.found.len());
        assert_eq!(report.more, (MAX_FOUND_SNAPSHOTS - report.found.len()) as u64 + 3);
        report.error = Some(Failure::new(Reason::Internal, "\"".repeat(9000)));
        let body = ReportBody::Report(Box::new(Report::Import(Box::new(report))));
        let message = serde_json::to_vec(&Message { subject_uid: "u".repeat(36), body }).unwrap();
        assert!(message.len() < 256 * 1024, "{}", message.len());
    }
}
