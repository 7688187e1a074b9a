//! The policy: as people write it, and as it is applied.

use std::time::Duration;

use dbbackup_contract::{DurationError, DurationText};
use serde::{Deserialize, Serialize};

/// Which backups of a series are kept. A backup that any rule keeps stays; without any `keep…`, all of them do.
// A field of a later release may be one that keeps more: what is not known is refused, not skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RetentionSpec {
    /// The newest so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// The newest of each of the last so many hours that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u32>,
    /// The newest of each of the last so many days that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u32>,
    /// The newest of each of the last so many weeks (Monday to Sunday) that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u32>,
    /// The newest of each of the last so many months that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u32>,
    /// The newest of each of the last so many years that have a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u32>,
    /// All that are at most so much older than the newest complete one, such as 48h or 7d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<DurationText>,
    /// The newest so many complete ones stay, whatever the other rules say. Alone it lets nothing go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u32>,
}

/// Why a policy cannot be carried out. The message names the field and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A rule that would keep nothing.
    #[error("retention.{0} is 0: write 1 or more, or leave it out")]
    Zero(&'static str),
    /// Not a duration.
    #[error("retention.keepWithin: {0}")]
    Duration(#[from] DurationError),
}

/// A policy that is understood. The default keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    // 0: there is no such rule.
    pub(crate) last: u32,
    pub(crate) hourly: u32,
    pub(crate) daily: u32,
    pub(crate) weekly: u32,
    pub(crate) monthly: u32,
    pub(crate) yearly: u32,
    pub(crate) within: Option<Duration>,
    pub(crate) minimum: u32,
}

impl RetentionSpec {
    /// The policy.
    ///
    /// # Errors
    /// A number or a duration of zero, or a text that is no duration.
    pub fn parse(&self) -> Result<RetentionPolicy, PolicyError> {
        let within = self.keep_within.as_ref().map(DurationText::parse).transpose()?;
        if within.is_some_and(|within| within.is_zero()) {
            return Err(PolicyError::Zero("keepWithin"));
        }
        Ok(RetentionPolicy {
            last: count("keepLast", self.keep_last)?,
            hourly: count("keepHourly", self.keep_hourly)?,
            daily: count("keepDaily", self.keep_daily)?,
            weekly: count("keepWeekly", self.keep_weekly)?,
            monthly: count("keepMonthly", self.keep_monthly)?,
            yearly: count("keepYearly", self.keep_yearly)?,
            within,
            minimum: count("minimum", self.minimum)?,
        })
    }
}

impl RetentionPolicy {
    /// Whether nothing is ever dropped: there is no `keep…` rule. `minimum` alone is a
    /// floor under rules that are not there.
    #[must_use]
    pub fn keeps_everything(&self) -> bool {
        *self == Self { minimum: self.minimum, ..Self::default() }
    }
}

fn count(field: &'static str, number: Option<u32>) -> Result<u32, PolicyError> {
    match number {
        Some(0) => Err(PolicyError::Zero(field)),
        number => Ok(number.unwrap_or(0)),
    }
}
