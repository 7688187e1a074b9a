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
    /// It restores databases.
    Restore,
    /// It maintains a repository.
    Maintain,
    /// It copies a snapshot to another repository.
    Copy,
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
            Self::Restore => "restore",
            Self::Maintain => "maintain",
            Self::Copy => "copy",
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
        SubjectKind::Backup => "Backup",
        SubjectKind::RestoreRequest => "RestoreRequest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_slot_names_its_backup() {
        let slot: Timestamp = "2025-11-18T15:15:00Z".parse().unwrap();
        assert_eq!(backup_name("shop-nightly", slot), "shop-nightly-29391315");
    }
}
