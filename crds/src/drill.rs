//! Drills of a schedule: its newest base is recovered into scratch storage and asked. What is
//! wanted, and what came of it.

use dbbackup_contract::{
    Assertion, AssertionReport, DrillDurations, DrillOutcome, Failure, ReachedPoint, RecoveryBase,
    ServerReport,
};
use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::references::OBJECT_NAME;
use crate::{JobSpec, Quantity, RecoveryServerSpec, SlotBaseline};

/// A server is recovered from its files.
pub(crate) const OF_BASES: &str =
    "!has(self.verification) || !has(self.verification.drill) || self.method == 'Physical'";
/// What is told where it is broken.
pub(crate) const OF_BASES_MESSAGE: &str = "verification.drill needs method: Physical: a drill recovers the whole server from its files; a logical backup is tried by a RestoreRequest";
/// The log is replayed where there is one.
pub(crate) const WITH_LOG: &str = "!has(self.verification) || !has(self.verification.drill) || !self.verification.drill.pointInTime || (has(self.pointInTimeRecovery) && self.pointInTimeRecovery.enabled)";
/// What is told where it is broken.
pub(crate) const WITH_LOG_MESSAGE: &str = "verification.drill.pointInTime replays the archived log: set pointInTimeRecovery.enabled: true, or leave pointInTime out to recover the newest base alone";

/// How it is proved that backups can be restored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSpec {
    /// The newest base is recovered by schedule, into storage that goes when it has ended, and asked. status.lastDrill and the condition RestoreProved have what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Box<DrillSpec>>,
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillSpec {
    /// When: five fields or a macro, as in the schedule itself. Of missed slots only the newest is made up for, and a drill that still runs at a slot is let end first. suspend does not stop drills.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("!self.matches('^(CRON_)?TZ=')").message("the time zone has a field of its own: write timeZone: Europe/Berlin instead of TZ= in schedule"),
        validation = Rule::new(r"self.matches('^(CRON_)?TZ=') || self.matches('^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$') || self.matches('^[^@\\s]\\S*(\\s+\\S+){4}$')").message("schedule has five fields (minute, hour, day of month, month, day of week), such as 0 12 * * 6, or is @hourly, @daily, @weekly, @monthly or @yearly")
    )]
    pub schedule: String,
    /// Time zone of the drill's schedule, by its IANA name. Left out: that of the backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
    /// true: the base is brought forward by all of the log that was archived; a gap behind it fails the drill. Needs pointInTimeRecovery. false: the base alone, at the moment at which it is consistent.
    #[serde(default)]
    pub point_in_time: bool,
    /// The server's own image, such as postgres:17: of the major version that is backed up, with all libraries that the server loads.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[A-Za-z0-9][-A-Za-z0-9._/:@]*$"))]
    pub image: String,
    /// The scratch storage: a claim that is made with the drill's pod, and goes with it.
    pub storage: DrillStorageSpec,
    /// The container in which the server replays its log and is asked.
    #[serde(default)]
    pub server: RecoveryServerSpec,
    /// What the recovered server must answer with true. Each is asked by a superuser, in a transaction that changes nothing; one that takes longer than job.stallTimeout does not hold. Without any, it has to start, and each of its databases to open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub assertions: Vec<Assertion>,
    /// How the drill's Job runs.
    #[serde(default)]
    pub job: JobSpec,
}

/// The storage of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillStorageSpec {
    /// How large it is, such as 50Gi: for the server's files, the log from the base on, and a fifth more.
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))").message("size is more than nothing, such as 50Gi"))]
    pub size: Quantity,
    /// The StorageClass; the cluster's own where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub storage_class_name: Option<String>,
}

/// Where the drills of a schedule stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillStatus {
    /// Since when the slots of the drill's schedule and zone count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_since: Option<SlotBaseline>,
    /// The newest slot that was begun or passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Timestamp>,
    /// When the newest slot was passed over because there was no base yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_over_time: Option<Timestamp>,
    /// The drill that runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<DrillRun>,
    /// When a drill last passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_passed_time: Option<Timestamp>,
}

/// A drill that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillRun {
    /// Its Job.
    #[schemars(length(max = 63))]
    pub job_name: String,
    /// Its slot.
    pub slot_time: Timestamp,
    /// When it began.
    pub start_time: Timestamp,
    /// Jobs that were begun for it: one whose report is lost is begun again.
    pub jobs: u32,
}

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastDrill {
    /// Whether the backup could be recovered, and holds what is asked for.
    pub outcome: DrillOutcome,
    /// When it ended.
    pub time: Timestamp,
    /// Its slot.
    pub slot_time: Timestamp,
    /// Its Job. That of one that failed stays for ten minutes, with its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// The base that was recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<RecoveryBase>,
    /// Where the server ended, by its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<ReachedPoint>,
    /// The server that was recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// The measured recovery time: from the beginning of the work until the recovered server took connections. Without the start of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_milliseconds: Option<u64>,
    /// The measured recovery point: how old the newest moment was, when the drill began, that could be recovered. With pointInTime the last that was archived, otherwise the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point_milliseconds: Option<u64>,
    /// How long its parts took.
    #[serde(default)]
    pub durations: DrillDurations,
    /// Bytes that base and log need.
    #[serde(default)]
    pub needed_bytes: u64,
    /// Bytes that were written to the scratch storage.
    #[serde(default)]
    pub restored_bytes: u64,
    /// Databases that were opened.
    #[serde(default)]
    pub databases: u32,
    /// What the server answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "atomic"))]
    pub assertions: Vec<AssertionReport>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}
