//! `BackupSchedule`: what is backed up, and when.

use dbbackup_contract::{
    DatabaseCount, DatabaseReport, DurationText, Failure, HookReport, LogStatus, Method, Outcome,
    RecoveryWindow, RetentionSpec, ServerReport,
};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ArchiverStatus, BackupPhase, Condition, CopySpec, DrillStatus, HooksSpec, JobSpec, LastDrill,
    LocalRef, NotificationSpec, PointInTimeRecoverySpec, RawReport, ScheduleCopyStatus, SourceSpec,
    VerificationSpec, archiving, copies, drill,
};

/// Rules of a retention, wherever one is said.
pub(crate) const KEEP_WITHIN: &str = "!has(self.keepWithin) || self.keepWithin.matches('[1-9]')";
/// What is told where it is broken.
pub(crate) const KEEP_WITHIN_MESSAGE: &str =
    "keepWithin of zero keeps nothing: write a duration such as 48h, or leave it out";
/// Rules of a retention, wherever one is said.
pub(crate) const MINIMUM: &str = "!has(self.minimum) || has(self.keepLast) || has(self.keepHourly) || has(self.keepDaily) || has(self.keepWeekly) || has(self.keepMonthly) || has(self.keepYearly) || has(self.keepWithin)";
/// What is told where it is broken.
pub(crate) const MINIMUM_MESSAGE: &str =
    "minimum alone lets nothing go: add a keep rule, such as keepDaily: 7, or leave minimum out";

/// What is backed up, and when.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dbbackup.dev",
    version = "v1alpha1",
    kind = "BackupSchedule",
    plural = "backupschedules",
    namespaced,
    status = "BackupScheduleStatus",
    derive = "PartialEq",
    shortname = "dbbs",
    category = "dbbackup",
    doc = "What is backed up, when, and where to. Each slot becomes a Backup. Deleting the object deletes no backup and stops none that runs.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.timeZone", priority = 1),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.display", description = "Is it fine?"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name of a BackupSchedule may have 40 characters at most: the names of its backups and Jobs grow from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(copies::ELSEWHERE).message(copies::ELSEWHERE_MESSAGE),
    validation = Rule::new(copies::APART).message(copies::APART_MESSAGE),
    validation = Rule::new(archiving::WHOLE_SERVER).message(archiving::WHOLE_SERVER_MESSAGE),
    validation = Rule::new(archiving::ON_BASES).message(archiving::ON_BASES_MESSAGE),
    validation = Rule::new(drill::OF_BASES).message(drill::OF_BASES_MESSAGE),
    validation = Rule::new(drill::WITH_LOG).message(drill::WITH_LOG_MESSAGE)
)]
pub struct BackupScheduleSpec {
    /// The BackupRepository that the backups go to.
    pub repository_ref: LocalRef,
    /// Second places: each backup that has ended is copied there, from repository to repository, without reading the server again. Backups that are there already are copied as well, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub copies: Vec<CopySpec>,
    /// The server that is backed up.
    pub source: SourceSpec,
    /// How the server is read. Logical: as SQL, database by database, for any server of that version or a newer one. Physical: all of its files, by the replication protocol, for a server of that major version; the role needs REPLICATION.
    #[serde(default)]
    pub method: Method,
    /// Recovery to any moment: the server's log is archived as well. Needs method: Physical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time_recovery: Option<PointInTimeRecoverySpec>,
    /// When: five fields (minute, hour, day of month, month, day of week) or @hourly, @daily, @weekly, @monthly, @yearly. A fixed time runs once a day, over clock changes too; of missed slots only the newest runs.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("!self.matches('^(CRON_)?TZ=')").message("the time zone has a field of its own: write timeZone: Europe/Berlin instead of TZ= in schedule"),
        validation = Rule::new(r"self.matches('^(CRON_)?TZ=') || self.matches('^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$') || self.matches('^[^@\\s]\\S*(\\s+\\S+){4}$')").message("schedule has five fields (minute, hour, day of month, month, day of week), such as 15 3 * * *, or is @hourly, @daily, @weekly, @monthly or @yearly; a sixth field is refused because it means seconds to some programs and years to others")
    )]
    pub schedule: String,
    /// Time zone of schedule, by its IANA name, such as Europe/Berlin.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
    /// No backup is started while this is true. Slots that pass meanwhile are not made up for. The log of the server is archived all the same (pointInTimeRecovery), and drills go on (verification.drill).
    #[serde(default)]
    pub suspend: bool,
    /// Forbid: a slot waits while an earlier backup of this schedule runs. Allow: it does not.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// A slot that could not be started within so many seconds is left out. Without it the newest missed slot is always made up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub starting_deadline_seconds: Option<i64>,
    /// Each backup is started later than its slot by a fixed time between 0 and this: the same every time, and another one for each schedule, so that those with the same line don't start all at once. 24h at most; 10m, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<DurationText>,
    /// A first backup is started at once, without waiting for a slot or for jitter, where this schedule has started none yet and no backup of it has succeeded. One that fails is tried again by the next slot.
    #[serde(default)]
    pub immediate: bool,
    /// Which backups of this schedule are kept. Left out: all of them. The maintenance of the BackupRepository lets the others go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new(KEEP_WITHIN).message(KEEP_WITHIN_MESSAGE),
        validation = Rule::new(MINIMUM).message(MINIMUM_MESSAGE)
    )]
    pub retention: Option<RetentionSpec>,
    /// How it is proved that the backups can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationSpec>,
    /// SQL that the server carries out before each backup and after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksSpec>,
    /// Who is told how the backups of this schedule end, by a webhook or by mail. A backup that has ended before they were added is told to nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub notifications: Vec<NotificationSpec>,
    /// How the backups' Jobs run.
    #[serde(default)]
    pub job: JobSpec,
}

/// What happens to a slot while an earlier backup still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It waits.
    #[default]
    Forbid,
    /// It runs beside it.
    Allow,
}

/// How a schedule is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupScheduleStatus {
    /// Generation of the spec that this status speaks of; -1 before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Is it fine? In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub display: Option<String>,
    /// Ready, Reconciling and Stalled; Copied where there are copies, Notified where somebody was told, LogArchived where the log is to be archived, RestoreProved where there are drills.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// The newest slot that was started or left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Timestamp>,
    /// When the next backup is started: at its slot, and later by what jitter adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Timestamp>,
    /// When a backup last succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Timestamp>,
    /// The newest backup that the schedule started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// How far the copies have come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub copies: Vec<ScheduleCopyStatus>,
    /// Backups of this schedule that have not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub active: Vec<crate::LocalRef>,
    /// The look that runs now whether backups would work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<PreflightRun>,
    /// What came of the last look whether backups would work: after each change of the spec, and a day after the last proof that they do. It reads no row, and whatever it finds keeps no backup from being started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_preflight: Option<LastPreflight>,
    /// Since when the present generation of the spec is known: a backup from before proves nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_time: Option<Timestamp>,
    /// What the runner of a preflight said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight_report: Option<RawReport>,
    /// Since when the slots of this schedule and zone count: earlier ones are never made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_since: Option<SlotBaseline>,
    /// The Jobs that archive the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archiver: Option<Box<ArchiverStatus>>,
    /// How the log is archived, as the archiver said it last: at most every half minute, but for what changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Box<LogStatus>>,
    /// Where the drills stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<Box<DrillStatus>>,
    /// What the runner of a drill said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_report: Option<RawReport>,
    /// When the next drill begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_drill_time: Option<Timestamp>,
    /// What came of the last drill: whether a backup could be recovered, and how long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_drill: Option<Box<LastDrill>>,
    /// Between which moments the server can be recovered to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_window: Option<Box<RecoveryWindow>>,
}

/// The newest backup of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its phase.
    pub phase: BackupPhase,
}

/// A look that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreflightRun {
    /// Its Job.
    #[schemars(length(max = 63))]
    pub job_name: String,
    /// Generation of the spec that is looked at.
    pub generation: i64,
    /// When it began.
    pub start_time: Timestamp,
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastPreflight {
    /// When it ended.
    pub time: Timestamp,
    /// Generation of the spec that was looked at.
    pub generation: i64,
    /// What would become of a backup.
    pub outcome: Outcome,
    /// Its Job. Its log stays for an hour after the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// How many databases would be backed up, and how many could not.
    #[serde(default)]
    pub database_count: DatabaseCount,
    /// Those that could not: at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub databases: Vec<DatabaseReport>,
    /// The hooks whose database cannot be opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40), extend("x-kubernetes-list-type" = "atomic"))]
    pub hooks: Vec<HookReport>,
    /// Why a backup would fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// Since when a schedule's slots count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotBaseline {
    /// The schedule that was in effect.
    #[schemars(length(max = 128))]
    pub schedule: String,
    /// Its time zone.
    #[schemars(length(max = 64))]
    pub time_zone: String,
    /// Slots after this time count.
    pub time: Timestamp,
}

fn utc() -> String {
    "Etc/UTC".to_owned()
}
