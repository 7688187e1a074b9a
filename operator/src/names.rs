//! Names of children: the same owner and attempt give the same name, so that
//! a crash between creating and remembering makes no duplicate.

use dbbackup_contract::SubjectKind;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Why a Job exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It creates or opens a repository.
    Init,
    /// It makes a backup.
    Backup,
    /// It asks a repository what became of a backup.
    Inspect,
    /// It finds the newest snapshot of a series.
    Find,
    /// It plans a restore, or looks for the point of a recovery.
    Plan,
    /// It restores databases.
    Restore,
    /// It recovers a server.
    Recover,
    /// It maintains a repository.
    Maintain,
    /// It copies a snapshot to another repository.
    Copy,
    /// It looks for snapshots that the cluster does not know.
    Import,
    /// It looks whether a backup would work.
    Preflight,
    /// It tells somebody how a backup ended.
    Notify,
    /// It archives a server's log.
    Archive,
    /// It drops the slot of an archive.
    Retire,
    /// It recovers a server into scratch storage, and asks it.
    Drill,
}

impl Purpose {
    /// As a part of names and as the value of [`crate::labels::PURPOSE`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Inspect => "inspect",
            Self::Find => "find",
            Self::Plan => "plan",
            Self::Restore => "restore",
            Self::Recover => "recover",
            Self::Maintain => "maintain",
            Self::Copy => "copy",
            Self::Import => "import",
            Self::Preflight => "preflight",
            Self::Notify => "notify",
            Self::Archive => "archive",
            Self::Retire => "retire",
            Self::Drill => "drill",
        }
    }
}

/// The name of a Job: readable, at most 63 characters, and of this one object
/// and attempt even if an object of the same name existed before.
#[must_use]
pub fn job_name(owner: &str, uid: &str, purpose: Purpose, attempt: u32) -> String {
    let digest = Sha256::digest(format!("{uid}/{}/{attempt}", purpose.as_str()));
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let tail = format!("-{}-{hash}", purpose.as_str());
    // Names of objects may hold dots, names of pods' hosts may not.
    let mut head: String =
        owner.chars().map(|c| if c == '.' { '-' } else { c }).take(63 - tail.len()).collect();
    while head.ends_with('-') {
        head.pop();
    }
    head + &tail
}

/// The name of the `Backup` of a slot: minutes since 1970 tell slots apart.
#[must_use]
pub fn backup_name(schedule: &str, slot: Timestamp) -> String {
    format!("{schedule}-{}", slot.as_second().div_euclid(60))
}

/// The name of the `Backup` of a snapshot that was found in a repository: the last part of
/// its series, which is anybody's text, its slot, and a hash that tells it from others.
#[must_use]
pub fn imported_name(series: &str, slot: Timestamp, repository: &str, snapshot: &str) -> String {
    let digest = Sha256::digest(format!("{repository}/{snapshot}"));
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let tail = format!("-{}-{hash}", slot.strftime("%Y%m%d-%H%M"));
    let last = series.rsplit('/').next().unwrap_or_default();
    let mut head = String::new();
    for letter in last.chars().map(|c| c.to_ascii_lowercase()) {
        match letter {
            'a'..='z' | '0'..='9' => head.push(letter),
            _ if head.is_empty() || head.ends_with('-') => {}
            _ => head.push('-'),
        }
    }
    head.truncate(63 - tail.len());
    let head = head.trim_end_matches('-');
    if head.is_empty() { format!("backup{tail}") } else { format!("{head}{tail}") }
}

/// When the run of a snapshot was due, as its id tells.
#[must_use]
pub fn slot_of_snapshot(id: &str) -> Option<Timestamp> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if id.split('-').any(|part| part.is_empty() || !part.chars().all(is_plain)) {
        return None;
    }
    let text = id.split('-').nth(1)?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%dt%H%M%Sz", text).ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// Whether an object can have this name. The schema asks for it wherever a person names one,
/// but objects may be older than the schema, and owners are named by whoever makes an object;
/// such a name stands in the address of a request.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name.split('.').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(|c| is_plain(*c))
                && bytes.last().is_some_and(|c| is_plain(*c))
                && bytes.iter().all(|c| is_plain(*c) || *c == b'-')
        })
}

/// The series of a schedule's backups.
#[must_use]
pub fn schedule_series(cluster: &str, namespace: &str, schedule: &str) -> String {
    format!("{cluster}/{namespace}/{schedule}")
}

/// The series of a `Backup` without a schedule. `~` cannot stand in the name of
/// a schedule, so that no schedule's retention ever reaches it.
#[must_use]
pub fn single_series(cluster: &str, namespace: &str, backup: &str) -> String {
    format!("{cluster}/{namespace}/~{backup}")
}

/// The kind's name, as in `kind:`.
#[must_use]
pub const fn kind_name(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::BackupRepository => "BackupRepository",
        SubjectKind::BackupSchedule => "BackupSchedule",
        SubjectKind::Backup => "Backup",
        SubjectKind::RestoreRequest => "RestoreRequest",
        SubjectKind::PitrRestore => "PitrRestore",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_an_object_is_no_path_and_no_query() {
        for name in ["a", "shop-nightly", "shop.example.com", "0a", &"a".repeat(253)] {
            assert!(is_object_name(name), "{name}");
        }
        let long = "a".repeat(254);
        for name in
            ["", "..", "../b", "a/b", "a?watch=1", "a b", "A", "-a", "a-", "a..b", "ä", &long]
        {
            assert!(!is_object_name(name), "{name}");
        }
    }

    #[test]
    fn a_job_is_named_after_its_owner_purpose_and_attempt() {
        let name = job_name("shop-nightly-29391435", "u1", Purpose::Backup, 0);
        assert!(name.starts_with("shop-nightly-29391435-backup-"), "{name}");
        assert_eq!(name, job_name("shop-nightly-29391435", "u1", Purpose::Backup, 0));
        for other in [
            job_name("shop-nightly-29391435", "u2", Purpose::Backup, 0),
            job_name("shop-nightly-29391435", "u1", Purpose::Inspect, 0),
            job_name("shop-nightly-29391435", "u1", Purpose::Backup, 1),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn long_and_dotted_names_become_valid_names_of_jobs() {
        for owner in ["a".repeat(253), "a.b.c".to_owned(), "x-".repeat(60)] {
            let name = job_name(&owner, "u", Purpose::Inspect, 7);
            assert!(name.len() <= 63 && !name.contains('.') && !name.contains("--"), "{name}");
        }
    }

    #[test]
    fn a_snapshot_that_was_found_has_a_readable_name_whatever_its_series_is_called() {
        let slot: Timestamp = "2026-11-20T01:15:00Z".parse().unwrap();
        let name = |series: &str| imported_name(series, slot, "main/5d0c", "s");
        let hash = name("x").split_once("-20261120-0115-").unwrap().1.to_owned();
        for (series, head) in [
            ("3f6c/shop/nightly", "nightly"),
            ("3f6c/shop/~before-upgrade", "before-upgrade"),
            ("a/b/Größe: \u{1b}[2J & more..", "gr-e-2j-more"),
            ("etc", "etc"),
            ("a/b/", "backup"),
            ("", "backup"),
            ("💾💾", "backup"),
        ] {
            assert_eq!(name(series), format!("{head}-20261120-0115-{hash}"), "{series}");
        }
        let long = name(&"x-".repeat(200));
        assert!(long.len() <= 63 && !long.contains("--"), "{long}");
        assert_ne!(imported_name("x", slot, "main/5d0c", "t"), name("x"));
        assert_ne!(imported_name("x", slot, "other/5d0c", "s"), name("x"));
        let early = Timestamp::UNIX_EPOCH;
        assert!(imported_name("x", early, "r", "s").starts_with("x-19700101-0000-"));
    }

    #[test]
    fn a_snapshots_id_tells_its_slot() {
        let slot = slot_of_snapshot("cz6l5x2t-20261125t093801z-xitslm6ex7tppl7c-0").unwrap();
        assert_eq!(slot.to_string(), "2026-11-25T09:38:01Z");
        for none in ["", "a-b", "snapshot-plain"] {
            assert_eq!(slot_of_snapshot(none), None, "{none}");
        }
    }

    #[test]
    fn a_slot_names_its_backup() {
        let slot: Timestamp = "2025-11-18T15:15:00Z".parse().unwrap();
        assert_eq!(backup_name("shop-nightly", slot), "shop-nightly-29391315");
    }
}
