//! Condition types, and the reasons of conditions and events that are no
//! failures. Failures have theirs in `dbbackup_contract::Reason`.

/// Fine, and nothing is left to do.
pub const READY: &str = "Ready";
/// Something is on its way.
pub const RECONCILING: &str = "Reconciling";
/// Nothing goes on before somebody changes something.
pub const STALLED: &str = "Stalled";
/// A one-shot object has done what it was for.
pub const COMPLETE: &str = "Complete";
/// A one-shot object has ended without doing all of it.
pub const FAILED: &str = "Failed";

/// The last maintenance of a repository did all that it should.
pub const MAINTAINED_TYPE: &str = "Maintained";
/// The last check of a repository found no damage.
pub const INTACT: &str = "Intact";

/// All copies of a schedule's newest backup are done.
pub const COPIED_TYPE: &str = "Copied";

/// What was told last about a schedule's backups has arrived.
pub const NOTIFIED_TYPE: &str = "Notified";

/// The log of a schedule's server is archived.
pub const LOG_ARCHIVED_TYPE: &str = "LogArchived";

/// The last drill of a schedule has recovered a backup that holds what is asked for.
pub const RESTORE_PROVED_TYPE: &str = "RestoreProved";

/// A repository was opened.
pub const OPENED: &str = "Opened";
/// A repository is being opened.
pub const OPENING: &str = "Opening";
/// A schedule is understood, and its last backup, if there was one, succeeded.
pub const ACCEPTED: &str = "Accepted";
/// A schedule is suspended by its spec.
pub const SUSPENDED: &str = "Suspended";
/// A run's Job was created and its pod has not started.
pub const STARTING: &str = "Starting";
/// A run goes on.
pub const RUNNING: &str = "Running";
/// A run has ended, and all is done.
pub const SUCCEEDED: &str = "Succeeded";
/// The backups of a schedule would work.
pub const PREFLIGHT_PASSED: &str = "PreflightPassed";
/// It is looked whether the backups of a schedule would work.
pub const PREFLIGHT: &str = "Preflight";
/// The plan of a restore was made.
pub const PLANNED: &str = "Planned";
/// The moment of a recovery was found in the server's log.
pub const TARGET_FOUND: &str = "TargetFound";
/// The claim of a recovered server was made.
pub const CLAIM_CREATED: &str = "ClaimCreated";
/// A drill has recovered a backup, and it holds what is asked for. Also an event.
pub const DRILL_PASSED: &str = "DrillPassed";
/// No drill has come to its slot yet.
pub const NOT_DRILLED: &str = "NotDrilled";
/// A drill's slot came when there was no base yet.
pub const NO_BASE: &str = "NoBase";
/// A repository was maintained.
pub const MAINTAINED: &str = "Maintained";
/// A check found no damage.
pub const CHECK_PASSED: &str = "CheckPassed";
/// A backup's snapshot was let go.
pub const EXPIRED: &str = "Expired";
/// Snapshots that were found became backups.
pub const IMPORTED: &str = "Imported";
/// A backup was copied.
pub const COPIED: &str = "Copied";
/// A copy is on its way, or waits for its turn.
pub const COPYING: &str = "Copying";
/// Somebody was told how a backup ended.
pub const NOTIFIED: &str = "Notified";
/// An attempt failed and is tried again.
pub const RETRYING: &str = "Retrying";

/// A log is archived as it comes.
pub const STREAMING: &str = "Streaming";
/// An archiver opens the repository, or connects to the server.
pub const CONNECTING: &str = "Connecting";
/// What is archived of a log is older than it should be.
pub const LOG_BEHIND: &str = "LogBehind";
/// An archiver that should speak says nothing.
pub const ARCHIVER_SILENT: &str = "ArchiverSilent";
/// The archiving of a log was switched off, and its slot is being dropped.
pub const DROPPING_SLOT: &str = "DroppingSlot";

/// Event: a log is archived from now on, or again.
pub const EVENT_ARCHIVING_STARTED: &str = "ArchivingStarted";
/// Event: the replication slot of an archive was dropped.
pub const EVENT_SLOT_DROPPED: &str = "SlotDropped";
/// Event: the replication slot of an archive could not be dropped, and stays.
pub const EVENT_SLOT_LEFT: &str = "SlotLeft";
/// Event: a drill could not recover a backup, or it does not hold what is asked for.
pub const EVENT_DRILL_FAILED: &str = "DrillFailed";
/// Event: a slot became a `Backup`.
pub const EVENT_BACKUP_CREATED: &str = "BackupCreated";
/// Event: a slot was left out.
pub const EVENT_SLOT_MISSED: &str = "SlotMissed";
/// Event: a Job was created.
pub const EVENT_JOB_CREATED: &str = "JobCreated";
/// Event: a Job was ended by the operator.
pub const EVENT_JOB_ENDED: &str = "JobEnded";
/// Event: the repository is asked what became of a run.
pub const EVENT_INSPECTING: &str = "Inspecting";
/// Event: a repository was created by this object.
pub const EVENT_CREATED: &str = "Created";
/// Event: some databases are done, others are not.
pub const EVENT_PARTIALLY_FAILED: &str = "PartiallyFailed";
