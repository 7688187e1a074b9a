//! Which record a recovery stops behind, and which log leads there, before anything is written.

use std::sync::Arc;

use dbbackup_contract::{Failure, Reason, ResolvedPoint};
use dbbackup_engine::{Activity, BackupSource};

use super::archived_log::ArchivedLog;
use super::index::{LogIndex, Stretch};
use super::segment::segments;
use super::target::{Search, StopBehind, Target};
use super::{RecoveryAction, RecoveryRequest, RecoveryTarget, TimelineChoice};
use crate::archiver::LogParts;
use crate::lsn::{Lsn, LsnError};
use crate::physical::{BaseDocument, read_base};
use crate::wal::Lineage;

/// Why a base cannot be brought to a point.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The point is before the moment at which the base is consistent, or on a timeline that was
    /// left before that: an older base may do.
    #[error("{0}")]
    TooEarly(Failure),
    /// No other base helps.
    #[error("{0}")]
    Other(Failure),
}

impl From<Failure> for PlanError {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::TooEarly(failure) | PlanError::Other(failure) => failure,
        }
    }
}

/// A recovery that can be carried out: the base, and the log up to one record.
#[derive(Clone, Debug)]
pub struct RecoveryPlan {
    pub(super) base: BaseDocument,
    pub(super) index: Arc<LogIndex>,
    pub(super) stretches: Vec<Stretch>,
    pub(super) timeline: u32,
    pub(super) action: RecoveryAction,
    /// Where the base's log begins.
    pub(super) start: Lsn,
    /// The last record that is replayed.
    pub(super) stop: StopBehind,
    /// Files of the log that come from the archive: timelines and numbers.
    pub(super) segments: Vec<(u32, u64)>,
}

impl RecoveryPlan {
    /// The point: the end of the last record that is replayed, its timeline, and when the newest
    /// transaction up to there ended, by the server's clock. That is not known of the moment at
    /// which the base is consistent, nor where none has ended since the base began.
    #[must_use]
    pub fn resolved(&self) -> ResolvedPoint {
        let StopBehind { end, timeline, time, .. } = self.stop;
        ResolvedPoint { lsn: end.to_string(), timeline, time }
    }

    /// Where the last record begins that is replayed: the server's `recovery_target_lsn`.
    #[must_use]
    pub fn record(&self) -> String {
        self.stop.record.to_string()
    }

    /// Bytes of files of the log that are put into `pg_wal`, beside those of the base.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.segments.len() as u64 * self.base.segment_bytes
    }

    /// Roles that could log in when the base was made: the one of the backup, then superusers.
    /// None are known of a base of an earlier release.
    #[must_use]
    pub fn login_roles(&self) -> &[String] {
        &self.base.login_roles
    }

    /// Of which version the server has to be: `17.11`, of which the major version counts.
    #[must_use]
    pub fn server_version(&self) -> &str {
        &self.base.server_version
    }
}

/// Looks for a point, from a base on, along an archived log. Nothing is written.
///
/// # Errors
/// `TargetUnreachable`, with the window that can be reached; what base and archive say.
pub async fn plan_recovery(
    request: &RecoveryRequest,
    source: &dyn BackupSource,
    archive: &dyn LogParts,
    log: &ArchivedLog,
) -> Result<RecoveryPlan, PlanError> {
    let base = read_base(source, &Activity::default()).await?;
    let (start, end, last_record) =
        (position(&base.start)?, position(&base.end)?, position(&base.last_record)?);
    let index = Arc::clone(log.index());
    let (timeline, stretches) = lineage_of(request, &base, end, &index)?;
    let stop = match target(&request.target)? {
        // For that no archive is needed.
        None => StopBehind { record: last_record, end, timeline: base.timeline, time: None },
        Some(target) => {
            let search = Search {
                archive,
                index: &index,
                stretches: &stretches,
                base_start: start,
                base_end: end,
                base_time: base.consistent_time,
                lineage: Lineage {
                    system_identifier: base.system_identifier.parse().unwrap_or(0),
                    segment_bytes: base.segment_bytes,
                },
            };
            search.find(&target).await?
        }
    };
    let segments = match request.target {
        RecoveryTarget::Immediate => Vec::new(),
        _ => segments(&index, &stretches, start, stop.end, base.segment_bytes),
    };
    let action = request.action;
    Ok(RecoveryPlan { base, index, stretches, timeline, action, start, stop, segments })
}

/// Along which timeline, and how one gets there from the base's.
///
/// The latest is that of the whole archive, whatever the base: where a server was put back to before
/// a base, that base belongs to a history that was given up, and must not lead there unasked.
fn lineage_of(
    request: &RecoveryRequest,
    base: &BaseDocument,
    end: Lsn,
    index: &LogIndex,
) -> Result<(u32, Vec<Stretch>), PlanError> {
    let is_immediate = request.target == RecoveryTarget::Immediate;
    let timeline = match request.timeline {
        // All of it is in the base.
        TimelineChoice::Latest if is_immediate => base.timeline,
        TimelineChoice::Latest => index.newest().unwrap_or(0).max(base.timeline),
        TimelineChoice::Current => base.timeline,
        TimelineChoice::Number(number) => number,
    };
    if let Some(stretches) = index.lineage_behind(base.timeline, end, timeline) {
        return Ok((timeline, stretches));
    }
    let unreachable = |why: String| Failure::new(Reason::TargetUnreachable, why);
    if timeline < base.timeline || index.knows(timeline) {
        let message = format!(
            "timeline {timeline} does not go through the base, which is of timeline {} and consistent \
             at {end}",
            base.timeline
        );
        let hint = "Take an older base; or name the timeline, by its number or as that of the base \
                    (Current): what the server has given up since is reached by that.";
        return Err(PlanError::TooEarly(unreachable(message).with_hint(hint)));
    }
    let message = format!("the archive knows no timeline {timeline}");
    Err(PlanError::Other(unreachable(message)))
}

fn position(text: &str) -> Result<Lsn, Failure> {
    text.parse().map_err(|error| Failure::new(Reason::ArchiveDamaged, format!("the base: {error}")))
}

/// `None` of the moment at which the base is consistent.
fn target(target: &RecoveryTarget) -> Result<Option<Target>, Failure> {
    Ok(Some(match target {
        RecoveryTarget::Immediate => return Ok(None),
        RecoveryTarget::Latest => Target::Latest,
        RecoveryTarget::Name(name) => Target::Name(name.clone()),
        RecoveryTarget::Time { time, inclusive } => {
            Target::Time { time: *time, inclusive: *inclusive }
        }
        RecoveryTarget::Transaction { xid, inclusive } => {
            Target::Transaction { xid: *xid, inclusive: *inclusive }
        }
        RecoveryTarget::Position { lsn, inclusive } => {
            let wrong = |error: LsnError| Failure::new(Reason::UsageError, error.to_string());
            Target::Position { lsn: lsn.parse().map_err(wrong)?, inclusive: *inclusive }
        }
    }))
}
