//! The retention policy as people write it. What it means is the retention crate's.

use serde::{Deserialize, Serialize};

use crate::DurationText;

/// Which backups of a series are kept. A backup that any rule keeps stays; without any `keep…`, all of them do.
// A field of a later release may be one that keeps more: what is not known is refused, not skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
// The API server prunes what its schema does not know, and takes no schema that forbids it.
#[cfg_attr(feature = "schema", schemars(!deny_unknown_fields))]
pub struct RetentionSpec {
    /// The newest so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100_000)))]
    pub keep_last: Option<u32>,
    /// The newest of each of the last so many hours that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100_000)))]
    pub keep_hourly: Option<u32>,
    /// The newest of each of the last so many days that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100_000)))]
    pub keep_daily: Option<u32>,
    /// The newest of each of the last so many weeks (Monday to Sunday) that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100_000)))]
    pub keep_weekly: Option<u32>,
    /// The newest of each of the last so many months that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100_000)))]
    pub keep_monthly: Option<u32>,
    /// The newest of each of the last so many years that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100_000)))]
    pub keep_yearly: Option<u32>,
    /// All that are at most so much older than the newest complete one, such as 48h or 7d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<DurationText>,
    /// The newest so many complete ones stay, whatever the other rules say. Alone it lets nothing go.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100_000)))]
    pub minimum: Option<u32>,
}
