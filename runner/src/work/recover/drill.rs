//! A drill: the newest base, and all of the log that was archived behind it, become a server
//! again; it is asked, and nothing of it is kept. `docs/adr/0066-drills.md` says what that proves.

use dbbackup_contract::{
    AssertionReport, DrillAction, DrillDurations, DrillOutcome, DrillReport, Failure, LogGap,
    Outcome, Reason, RecoverReport, RecoveryPoint, listed,
};
use jiff::Timestamp;

use super::super::Order;
use super::super::open::named;
use super::words::position;
use super::{Places, put_back};

/// Assertions that a message names.
const MOST_NAMED: usize = 5;

/// Carries out a drill; a failure is in the report.
pub(crate) async fn drill(order: &Order<'_>, action: &DrillAction) -> DrillReport {
    drill_at(order, action, &Places::of_pod()).await
}

pub(super) async fn drill_at(
    order: &Order<'_>,
    action: &DrillAction,
    places: &Places,
) -> DrillReport {
    let mut report = DrillReport::begun(Timestamp::now());
    let tried = try_drill(order, action, places, &mut report).await;
    report.completion_time = Timestamp::now();
    report.recovery.completion_time = report.completion_time;
    let times = report.recovery.durations;
    report.durations = DrillDurations {
        planning_milliseconds: times.planning_milliseconds,
        restoring_milliseconds: times.restoring_milliseconds,
        recovering_milliseconds: times.recovering_milliseconds,
        ..report.durations
    };
    if report.durations.starting_milliseconds > 0 {
        report.recovery_milliseconds = Some(report.durations.until_open());
    }
    match tried.and_then(|()| all_hold(&report.assertions)) {
        Ok(()) => report.outcome = Outcome::Succeeded,
        Err(error) => report.error = Some(advised(named(error, &order.repository.name))),
    }
    report
}

async fn try_drill(
    order: &Order<'_>,
    action: &DrillAction,
    places: &Places,
    report: &mut DrillReport,
) -> Result<(), Failure> {
    let suitable = |chosen: &RecoverReport| match action.recovery.point {
        RecoveryPoint::Latest {} => reaches_the_end(chosen),
        _ => Ok(()),
    };
    let put = put_back(order, &action.recovery, places, &mut report.recovery, suitable).await;
    report.recovery_point_milliseconds = recovery_point(action, &report.recovery);
    let Some(restored) = put? else {
        return Err(Failure::new(Reason::TaskInvalid, "a drill is more than a look"));
    };
    report.recovery.outcome = Outcome::Failed;
    restored.try_out(order, action, report).await?;
    report.recovery.outcome = Outcome::Succeeded;
    Ok(())
}

/// Refuses a base behind which log is missing: what was archived after the gap leads nowhere, and
/// a server that ends before it is not all that was archived.
fn reaches_the_end(chosen: &RecoverReport) -> Result<(), Failure> {
    let (Some(end), Some(window)) = (&chosen.resolved_target, &chosen.recovery_window) else {
        return Ok(());
    };
    let is_behind =
        |gap: &&LogGap| gap.timeline >= end.timeline && position(&gap.end) > position(&end.lsn);
    let Some(gap) = window.gaps.iter().find(is_behind) else { return Ok(()) };
    let message = format!(
        "the log is missing from {} to {}, behind the newest base: nothing that was written since \
         can be recovered",
        gap.start, gap.end
    );
    Err(Failure::new(Reason::LogMissing, message))
}

/// How old the newest moment was that could be recovered when the drill began.
fn recovery_point(action: &DrillAction, chosen: &RecoverReport) -> Option<u64> {
    let base = chosen.base.as_ref()?.time;
    let newest = if action.is_point_in_time() {
        chosen.recovery_window.as_ref().and_then(|window| window.latest).or(base)
    } else {
        base
    };
    let age = chosen.start_time.duration_since(newest?).as_millis();
    Some(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
}

/// The failure of all assertions that do not hold: the first one's words, and the others' names.
fn all_hold(assertions: &[AssertionReport]) -> Result<(), Failure> {
    let failed: Vec<_> =
        assertions.iter().filter(|it| it.outcome == DrillOutcome::Failed).collect();
    let Some((first, others)) = failed.split_first() else { return Ok(()) };
    let why = first.message.as_deref().unwrap_or("no reason is known");
    let mut message = format!("assertion {} does not hold: {why}", first.name);
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|it| it.name.as_str()).collect();
        message = format!("{message}; nor do {}", listed(&names, MOST_NAMED));
    }
    Err(Failure::new(Reason::AssertionFailed, message))
}

/// What a person can do about a drill that failed: there is no request to create anew.
fn advised(failure: Failure) -> Failure {
    let hint = match failure.reason {
        Reason::AssertionFailed => {
            "The backup was recovered, and does not hold what is asked for: look at the server that \
             is backed up, or correct the assertion in verification.drill.assertions."
        }
        Reason::VolumeTooSmall => {
            "Raise verification.drill.storage.size to a fifth more than what is needed: the file \
             system and the replay need room, too."
        }
        Reason::ServerImageUnsuitable => {
            "Name in verification.drill.image the server's own image: of the same major version, \
             with all libraries that it loads."
        }
        Reason::RecoveryFailed => {
            "The message has the server's last words, the log of the Job's pod has all of them. Most \
             often the image lacks a library or a setting. Until it is known why, do not count on \
             this backup."
        }
        Reason::TargetMissed => {
            "Please report it with the Job's log: the backup does not lead there."
        }
        Reason::LogMissing => {
            "Make a base now (a Backup with scheduleRef), and give the archiver's replication slot \
             more room: max_slot_wal_keep_size on the server."
        }
        Reason::TargetUnreachable => {
            "Look at status.recoveryWindow of the schedule, and make a base (a Backup with \
             scheduleRef)."
        }
        Reason::SnapshotNotFound => {
            "Make a base (a Backup with scheduleRef, method: Physical), or see who has deleted those \
             that were there."
        }
        _ => return failure,
    };
    failure.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, message: Option<&str>) -> AssertionReport {
        AssertionReport {
            name: name.to_owned(),
            outcome: if message.is_none() { DrillOutcome::Passed } else { DrillOutcome::Failed },
            duration_milliseconds: 1,
            message: message.map(str::to_owned),
        }
    }

    #[test]
    fn the_first_assertion_that_does_not_hold_is_told_and_the_others_are_named() {
        all_hold(&[answer("a", None)]).unwrap();
        let answers =
            [answer("a", None), answer("b", Some("it is false")), answer("c", Some("it is null"))];
        let failure = all_hold(&answers).unwrap_err();
        assert_eq!(failure.reason, Reason::AssertionFailed);
        assert_eq!(failure.message, "assertion b does not hold: it is false; nor do c");
    }

    #[test]
    fn no_hint_of_a_drill_asks_for_another_request() {
        for reason in [
            Reason::AssertionFailed,
            Reason::VolumeTooSmall,
            Reason::ServerImageUnsuitable,
            Reason::RecoveryFailed,
            Reason::TargetMissed,
            Reason::LogMissing,
            Reason::TargetUnreachable,
        ] {
            let failure = advised(Failure::new(reason, "x"));
            assert!(!failure.hint.contains("PitrRestore"), "{failure}");
        }
    }
}
