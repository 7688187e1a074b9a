//! Between which moments a server can be recovered to: the log says since when and up to when it
//! is kept, the backups say which bases there are.

use dbbackup_contract::{LogStatus, Method, RecoveryWindow};
use dbbackup_crds::{Backup, BackupPhase, BackupRepository, BackupSchedule, BackupStatus};
use jiff::Timestamp;
use kube::ResourceExt;

/// A physical backup that can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// When it began: the log is needed from then on.
    pub began: Timestamp,
    /// The moment at which it is consistent.
    pub consistent: Timestamp,
    /// The server that it is of.
    pub server: Option<String>,
}

/// The bases among `backups`, all of the schedule, in the repository that it names.
#[must_use]
pub(in crate::reconcile::schedule) fn bases(
    schedule: &BackupSchedule,
    repository: Option<&BackupRepository>,
    backups: &[&Backup],
) -> Vec<Base> {
    let name = &schedule.spec.repository_ref.name;
    let id = repository
        .filter(|repository| repository.name_any() == *name)
        .and_then(|repository| repository.status.as_ref()?.id.as_deref());
    let statuses = backups.iter().filter_map(|backup| backup.status.as_ref());
    statuses.filter(|status| is_in(status, name, id)).filter_map(base).collect()
}

/// Whether a backup is in this repository; where both ids are known, they say it.
fn is_in(status: &BackupStatus, name: &str, id: Option<&str>) -> bool {
    status.repository.as_ref().is_some_and(|holder| {
        let is_other = holder.id.as_deref().zip(id).is_some_and(|(theirs, ours)| theirs != ours);
        holder.name == name && !is_other
    })
}

fn base(status: &BackupStatus) -> Option<Base> {
    let phase = status.phase.unwrap_or_default();
    // One of which a page is damaged has all the rest.
    let is_there = matches!(phase, BackupPhase::Succeeded | BackupPhase::PartiallyFailed)
        && status.snapshot_id.is_some();
    let is_base = status.method.as_ref().is_some_and(|method| method.used == Method::Physical);
    if !is_there || !is_base {
        return None;
    }
    let server = status.server.as_ref().map(|server| server.identity.clone());
    Some(Base { began: status.start_time?, consistent: status.consistent_time?, server })
}

/// The oldest base that the log brings forward to where it is kept now.
pub(super) fn oldest<'a>(log: &LogStatus, bases: &'a [Base]) -> Option<&'a Base> {
    // Bases from before lead no further than to the gap.
    let since = log.unbroken_since?;
    let is_its = |base: &&Base| {
        let is_other = base.server.as_ref().zip(log.server.as_ref()).is_some_and(|(a, b)| a != b);
        base.began >= since && !is_other
    };
    bases.iter().filter(is_its).min_by_key(|base| base.consistent)
}

/// The window.
pub(super) fn window(log: &LogStatus, bases: &[Base]) -> RecoveryWindow {
    let earliest = oldest(log, bases).map(|base| base.consistent);
    RecoveryWindow {
        earliest,
        // A base alone leads to the moment at which it is consistent.
        latest: log.kept_time.max(earliest),
        gaps: log.gaps.clone(),
        gap_count: log.gap_count,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::fixtures;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn log(unbroken_since: Option<&str>) -> LogStatus {
        LogStatus {
            server: Some("71".into()),
            kept_time: Some(at("2026-11-23T12:00:00Z")),
            unbroken_since: unbroken_since.map(at),
            ..LogStatus::default()
        }
    }

    fn base(began: &str, consistent: &str, server: &str) -> Base {
        Base { began: at(began), consistent: at(consistent), server: Some(server.into()) }
    }

    #[test]
    fn a_window_begins_with_the_oldest_base_behind_the_last_gap() {
        let all = [
            base("2026-11-21T02:00:00Z", "2026-11-21T02:10:00Z", "71"),
            base("2026-11-22T02:00:00Z", "2026-11-22T02:10:00Z", "71"),
            base("2026-11-23T02:00:00Z", "2026-11-23T02:10:00Z", "71"),
            // Of the server that was there before it was restored.
            base("2026-11-22T01:00:00Z", "2026-11-22T01:10:00Z", "70"),
        ];
        for (since, earliest) in [
            (Some("2026-11-20T00:00:00Z"), Some("2026-11-21T02:10:00Z")),
            // Such a one began before the gap and was consistent behind it: it leads nowhere.
            (Some("2026-11-21T02:05:00Z"), Some("2026-11-22T02:10:00Z")),
            (Some("2026-11-23T03:00:00Z"), None),
            (None, None),
        ] {
            let found = window(&log(since), &all);
            assert_eq!(found.earliest, earliest.map(at), "{since:?}");
            assert_eq!(found.latest, Some(at("2026-11-23T12:00:00Z")), "{since:?}");
        }
        // What is kept does not reach the base yet.
        let new = [base("2026-11-23T11:59:00Z", "2026-11-23T12:01:00Z", "71")];
        let found = window(&log(Some("2026-11-20T00:00:00Z")), &new);
        assert_eq!((found.earliest, found.latest), (Some(new[0].consistent), found.earliest));
    }

    #[test]
    fn a_base_is_a_physical_backup_that_is_in_the_repository_still() {
        let schedule: BackupSchedule = serde_json::from_value(json!({
            "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": "nightly", "namespace": "shop"},
            "spec": {"repositoryRef": {"name": "main"}, "source": {}, "schedule": "@daily"},
        }))
        .unwrap();
        let repository = fixtures::repository();
        let whole = json!({
            "phase": "Succeeded", "snapshotId": "s", "method": {"used": "Physical", "reason": ""},
            "repository": {"name": "main", "id": "5d0c0f4e7a1b2c3d"},
            "startTime": "2026-11-21T02:00:00Z", "consistentTime": "2026-11-21T02:10:00Z",
            "server": {"version": "17.2", "identity": "71", "sizeBytes": 1},
        });
        let found = |change: serde_json::Value| {
            let mut status = whole.clone();
            change.as_object().unwrap().iter().for_each(|(key, value)| {
                status[key] = value.clone();
            });
            let mut backup = fixtures::backup();
            backup.status = Some(serde_json::from_value(status).unwrap());
            bases(&schedule, Some(&repository), &[&backup])
        };
        let expected = base("2026-11-21T02:00:00Z", "2026-11-21T02:10:00Z", "71");
        for yes in [
            json!({}),
            json!({"phase": "PartiallyFailed"}),
            json!({"repository": {"name": "main"}}),
        ] {
            assert_eq!(found(yes.clone()), std::slice::from_ref(&expected), "{yes}");
        }
        for no in [
            json!({"phase": "Expired"}),
            json!({"phase": "Missing"}),
            json!({"snapshotId": null}),
            json!({"method": {"used": "Logical", "reason": ""}}),
            json!({"repository": {"name": "main", "id": "another"}}),
            json!({"repository": {"name": "second"}}),
            json!({"consistentTime": null}),
        ] {
            assert_eq!(found(no.clone()), [], "{no}");
        }
    }
}
