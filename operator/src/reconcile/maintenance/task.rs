//! The Job of a maintenance.

use dbbackup_contract::{Action, CheckShare, Failure, MaintainAction, Reason, SHORTEST_GRACE};
use dbbackup_crds::{BackupRepository, CheckSpec};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;

use super::gather::{Asked, seconds};
use crate::context::{Identity, Surroundings};
use crate::names::Purpose;
use crate::reconcile::repository::repository_job;

const SECONDS_OF_A_DAY: i64 = 86_400;
/// How far the clocks of cluster and storage may be apart, and how long a check takes.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(24);

/// The Job that carries out what is asked.
pub(super) fn maintain_job(
    around: &Surroundings,
    repository: &BackupRepository,
    identity: &Identity,
    asked: Asked,
    name: String,
    now: Timestamp,
) -> Result<Job, Failure> {
    let action = Action::Maintain(Box::new(action(repository, asked, now)?));
    repository_job(around, repository, identity, Purpose::Maintain, action, name)
}

fn action(
    repository: &BackupRepository,
    asked: Asked,
    now: Timestamp,
) -> Result<MaintainAction, Failure> {
    let spec = &repository.spec.maintenance;
    let grace = seconds(&spec.grace_period).filter(|grace| *grace >= SHORTEST_GRACE.as_secs());
    let grace_seconds = grace.ok_or_else(|| {
        let text = spec.grace_period.as_str();
        let message = format!("spec.maintenance.gracePeriod is {text}, less than 10m");
        Failure::new(Reason::InvalidSpec, message).with_hint("Write 10m or more, such as 24h.")
    })?;
    let Asked { series, pin, unpin, erase, retain } = asked;
    Ok(MaintainAction {
        series,
        pin,
        unpin,
        erase,
        retain,
        grace_seconds,
        max_delete_percent: spec.max_delete_percent,
        approved_plan: spec.approved_plan.clone(),
        check: share(repository, now),
    })
}

/// What is read: other packs each day, and what has come since the last check. Of a
/// repository that was there before its object, the share alone reads what it held then.
fn share(repository: &BackupRepository, now: Timestamp) -> CheckShare {
    let CheckSpec { read_percent, read_new } = repository.spec.maintenance.check;
    let last = repository.status.as_ref().and_then(|status| status.last_check.as_ref());
    let created = repository.metadata.creation_timestamp.as_ref().map(|time| time.0);
    // Of a check before this was written down: it began within a day before its end.
    let known = last.map(|last| last.time).or(created);
    let since = last.and_then(|last| last.as_of);
    let since = since.or_else(|| known?.checked_sub(CLOCKS_DIFFER).ok());
    CheckShare {
        read_percent,
        number: (now.as_second() / SECONDS_OF_A_DAY).unsigned_abs(),
        new_since: since.filter(|_| read_new),
    }
}

#[cfg(test)]
mod tests {
    use dbbackup_crds::{BackupRepositoryStatus, LastCheck};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::reconcile::fixtures;

    #[test]
    fn what_has_come_since_the_last_check_or_since_the_object_is_read() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-23T12:00:00Z");
        let mut repository = fixtures::repository();
        repository.metadata.creation_timestamp = Some(Time(at("2026-11-20T00:00:00Z")));
        let since = |repository: &BackupRepository| share(repository, now).new_since;
        assert_eq!(since(&repository), Some(at("2026-11-19T00:00:00Z")));

        let last = json!({"time": "2026-11-22T05:09:00Z", "outcome": "Passed", "readPercent": 1});
        let mut last: LastCheck = serde_json::from_value(last).unwrap();
        let checked = |last: &LastCheck| BackupRepositoryStatus {
            last_check: Some(last.clone()),
            ..BackupRepositoryStatus::default()
        };
        repository.status = Some(checked(&last));
        assert_eq!(since(&repository), Some(at("2026-11-21T05:09:00Z")));
        last.as_of = Some(at("2026-11-22T05:01:00Z"));
        repository.status = Some(checked(&last));
        assert_eq!(since(&repository), Some(at("2026-11-22T05:01:00Z")));

        repository.spec.maintenance.check.read_new = false;
        assert_eq!(since(&repository), None);
        assert_eq!(share(&repository, now).number, 20_780);
    }
}
