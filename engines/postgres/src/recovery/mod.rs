//! Recovery to a point in time: which log a base needs, and behind which record it stops.
//!
//! [`ArchivedLog`] says what an archive has; [`plan_recovery`] looks for the point, and writes
//! nothing; [`RecoveryPlan::carry_out`] puts base and log into a folder; when the server that was
//! started on it has become a primary, [`forget_recovery_settings`] takes out what led it there.

mod archived_log;
mod files;
mod index;
mod plan;
mod segment;
mod settings;
mod target;

use jiff::Timestamp;

pub use self::archived_log::{ArchivedLog, LogPartHead};
pub use self::files::recover_files;
pub use self::plan::{PlanError, RecoveryPlan, plan_recovery};
pub use self::settings::forget_recovery_settings;

/// Where to recover to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// All that had ended by this time; without `inclusive` not what ended at it.
    Time {
        /// The server's clock.
        time: Timestamp,
        /// Whether what ended at that very time is wanted.
        inclusive: bool,
    },
    /// The log before this position; with `inclusive` also the record that begins there.
    Position {
        /// Such as `16/B374D848`.
        lsn: String,
        /// Whether the record that begins there is wanted.
        inclusive: bool,
    },
    /// The moment at which this transaction ended.
    Transaction {
        /// Its number.
        xid: u32,
        /// Whether its end is wanted.
        inclusive: bool,
    },
    /// A point that somebody has named (`pg_create_restore_point`).
    Name(String),
    /// The moment at which the base is consistent.
    Immediate,
    /// All that was archived.
    Latest,
}

/// Which timeline is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimelineChoice {
    /// The newest that comes from the base's.
    #[default]
    Latest,
    /// The base's own.
    Current,
    /// This one.
    Number(u32),
}

/// What the server does when the point is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryAction {
    /// It becomes a primary, on a new timeline.
    #[default]
    Promote,
    /// It waits, and can be read.
    Pause,
    /// It ends.
    Shutdown,
}

/// A recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryRequest {
    /// Where to.
    pub target: RecoveryTarget,
    /// Along which timeline.
    pub timeline: TimelineChoice,
    /// What happens then.
    pub action: RecoveryAction,
}
