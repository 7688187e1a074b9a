//! Flags of what lets snapshots go, keeps them, and frees their space.

use clap::Args;

use super::repository::RepositoryArgs;

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Only the snapshots of this series; of every series where not given.
    #[arg(long, value_name = "NAME", conflicts_with = "snapshots")]
    pub(crate) series: Vec<String>,
    #[command(flatten)]
    pub(crate) rules: RuleArgs,
    /// Let just this snapshot go, whatever the rules say: its id, whole.
    #[arg(long = "snapshot", value_name = "ID", conflicts_with = "rules")]
    pub(crate) snapshots: Vec<String>,
    /// Show the plan and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Refuse a plan that lets go of a larger share of the snapshots.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) max_delete_percent: Option<u8>,
    /// Carry out a plan with this digest though it is larger.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) approved_plan: Option<String>,
    /// Print the plan as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which snapshots of a series are kept: what any rule keeps stays.
#[derive(Debug, Args)]
#[group(id = "rules", multiple = true)]
pub(crate) struct RuleArgs {
    /// Keep the newest N.
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks (Monday to Sunday) that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_yearly: Option<u32>,
    /// Keep all that are at most so much older than the newest: 48h, 7d.
    #[arg(long, value_name = "DURATION")]
    pub(crate) keep_within: Option<String>,
    /// Keep the newest N complete ones, whatever the other rules say.
    #[arg(long, value_name = "N")]
    pub(crate) minimum: Option<u32>,
    /// Where days begin.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(crate) time_zone: String,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Time between the two steps, 10m at least: writers that began before may not know the first.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(crate) grace: String,
    /// Show what would be deleted and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Refuse to delete a larger share of the stored bytes (what failed runs left does not count).
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) max_delete_percent: Option<u8>,
    /// Carry out a plan with this digest though it is larger.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) approved_plan: Option<String>,
    /// Leave packs alone that are used in part; else what is used is moved together.
    #[arg(long)]
    pub(crate) no_repack: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The snapshot's id, or as many of its first characters as make it unique.
    pub(crate) snapshot: String,
    /// Why, for whoever asks later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
}
