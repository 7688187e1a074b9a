//! The moment of a `PitrRestore`, from the API's words to the task's.

use dbbackup_contract::{Failure, Reason, RecoveryPoint, RecoveryTimeline};
use dbbackup_crds::RecoveryTargetSpec;

/// The lowest number that a transaction ever has.
const FIRST_XID: u32 = 3;

/// Where to, and along which timeline.
///
/// # Errors
/// `InvalidSpec` where the schema let something through that means nothing.
pub(super) fn target(
    spec: &RecoveryTargetSpec,
) -> Result<(RecoveryPoint, RecoveryTimeline), Failure> {
    Ok((point(spec)?, timeline(&spec.timeline)?))
}

fn point(spec: &RecoveryTargetSpec) -> Result<RecoveryPoint, Failure> {
    let inclusive = spec.inclusive.unwrap_or(true);
    let mut points = Vec::new();
    points.extend(spec.time.map(|time| RecoveryPoint::Time { time, inclusive }));
    let lsn = spec.lsn.clone();
    points.extend(lsn.map(|lsn| RecoveryPoint::Lsn { lsn, inclusive }));
    if let Some(text) = &spec.xid {
        let inclusive = spec.inclusive.ok_or_else(|| {
            invalid("spec.recoveryTarget.inclusive is missing", "With xid it must be said.")
        })?;
        points.push(RecoveryPoint::Xid { xid: xid(text)?, inclusive });
    }
    points.extend(spec.name.clone().map(RecoveryPoint::Name));
    points.extend(spec.immediate.as_ref().map(|_| RecoveryPoint::Immediate {}));
    points.extend(spec.latest.as_ref().map(|_| RecoveryPoint::Latest {}));
    let mut points = points.into_iter();
    match (points.next(), points.next()) {
        (Some(point), None) => Ok(point),
        _ => Err(invalid(
            "spec.recoveryTarget says no moment, or several",
            "Say exactly one of time, lsn, xid, name, immediate and latest.",
        )),
    }
}

/// A transaction's number. `pg_current_xact_id()` gives one of 64 bits, which counts on where
/// that of the log begins anew: the server's own `recovery_target_xid` takes its lower half, too.
fn xid(text: &str) -> Result<u32, Failure> {
    let wide = text.parse::<u64>().ok();
    let xid = wide.and_then(|wide| u32::try_from(wide & u64::from(u32::MAX)).ok());
    xid.filter(|xid| *xid >= FIRST_XID).ok_or_else(|| {
        invalid(
            &format!("spec.recoveryTarget.xid: {text} is no transaction's number"),
            "Write it as pg_current_xact_id() gives it, in quotes.",
        )
    })
}

fn timeline(text: &str) -> Result<RecoveryTimeline, Failure> {
    match text {
        "Latest" => Ok(RecoveryTimeline::Latest),
        "Current" => Ok(RecoveryTimeline::Current),
        number => number.parse().map(RecoveryTimeline::Number).map_err(|_| {
            invalid(
                &format!("spec.recoveryTarget.timeline: {number} is none"),
                "Say Latest, Current or a number in quotes.",
            )
        }),
    }
}

fn invalid(message: &str, hint: &str) -> Failure {
    Failure::new(Reason::InvalidSpec, message).with_hint(hint)
}
