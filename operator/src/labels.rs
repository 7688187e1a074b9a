//! Labels and annotations of what the operator creates. Those that are read of an object as a
//! watch has it are named in `watch.rs`, too: a watch forgets all others.

use dbbackup_crds::Backup;
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};

/// Who manages an object; the value is [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`], and the field manager of all writes.
pub const MANAGER: &str = "dbbackup";
/// What an object is; the value is [`RUNNER`] for Jobs and their pods.
pub const NAME: &str = "app.kubernetes.io/name";
/// Value of [`NAME`] for Jobs and their pods.
pub const RUNNER: &str = "dbbackup-runner";
/// Kind of the object that a Job works for.
pub const KIND: &str = "dbbackup.dev/kind";
/// Why a Job exists.
pub const PURPOSE: &str = "dbbackup.dev/purpose";
/// Schedule of a `Backup`.
pub const SCHEDULE: &str = "dbbackup.dev/schedule";
/// A `Backup` that was made of a snapshot that was found in a repository; the value is `true`.
pub const IMPORTED: &str = "dbbackup.dev/imported";
/// Annotation: name of the object that a Job works for. No label, because names may be longer.
pub const SUBJECT: &str = "dbbackup.dev/subject";
/// Annotation: the slot of a `Backup` that a schedule made (RFC 3339).
pub const SLOT: &str = "dbbackup.dev/slot";
/// Annotation of a claim that was made for a recovery: the UID of its `PitrRestore`.
pub const RECOVERY: &str = "dbbackup.dev/pitr-restore-uid";
/// Beginning of the label of pods that have a claim of one node; its UID follows.
pub const CLAIM_PREFIX: &str = "claim.dbbackup.dev/";
/// Label of pods that are given the workload identity of Azure.
pub const AZURE_IDENTITY: &str = "azure.workload.identity/use";

/// Finalizer of a schedule whose server has a replication slot of ours (ADR 63).
pub const SLOT_FINALIZER: &str = "dbbackup.dev/replication-slot";

/// How far the API server's clock may be behind ours.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(1);

/// The slot that a schedule made it for. Nobody makes one before its slot: what says so is by
/// hand, and would be the newest of its series for retention for years.
#[must_use]
pub fn slot_of(backup: &Backup) -> Option<Timestamp> {
    let slot: Timestamp = backup.annotations().get(SLOT)?.parse().ok()?;
    let created = backup.creation_timestamp()?.0;
    (slot.duration_since(created) <= CLOCKS_DIFFER).then_some(slot)
}

/// Whether an object is held until the replication slot on its server is gone.
#[must_use]
pub fn has_slot<K: Resource>(object: &K) -> bool {
    object.meta().finalizers.iter().flatten().any(|it| it == SLOT_FINALIZER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::fixtures;

    #[test]
    fn a_slot_that_is_yet_to_come_is_none() {
        let mut backup = fixtures::backup();
        let created: Timestamp = "2026-11-20T01:15:02Z".parse().unwrap();
        backup.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
        assert_eq!(slot_of(&backup), None);
        for (slot, counts) in [
            ("2026-11-20T01:15:00Z", true),
            ("2026-11-19T01:15:00Z", true),
            ("2026-11-20T01:20:00Z", true),
            ("2026-11-21T01:15:00Z", false),
            ("9999-12-30T00:00:00Z", false),
            ("soon", false),
        ] {
            let slots = [(SLOT.to_owned(), slot.to_owned())];
            backup.metadata.annotations = Some(slots.into());
            assert_eq!(slot_of(&backup).is_some(), counts, "{slot}");
        }
    }
}
