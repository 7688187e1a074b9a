//! Flags of `archive` and `recover`: files of a server, its log, and points in time.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dbbackup_postgres::{RecoveryAction, TimelineChoice};
use jiff::Timestamp;

use super::repository::RepositoryArgs;
use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct ArchiveArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Name of the series that the server's backups belong to.
    #[arg(long, value_name = "NAME")]
    pub(crate) series: Option<String>,
    /// The replication slot on the server; made where it is missing. Named after the series where not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) slot: Option<String>,
    /// How old what is not kept yet may become.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) max_lag: String,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The snapshot's id, or as many of its first characters as make it unique.
    pub(crate) snapshot: String,
    /// The data folder: it does not exist yet, or is empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: PathBuf,
    /// Where tablespaces go: each gets a folder below, named by its OID.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) tablespace_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) point: PointArgs,
    /// Stop before the point: without what ended at that time, or without that transaction.
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// The timeline that is followed: latest, current (the base's own), or a number.
    #[arg(long, value_name = "TIMELINE", default_value = "latest", value_parser = timeline)]
    pub(crate) timeline: TimelineChoice,
    /// What the server does when it is there.
    #[arg(long, value_enum, default_value_t = ActionArg::Promote)]
    pub(crate) action: ActionArg,
    /// Give back what is left of it though it was written off.
    #[arg(long)]
    pub(crate) even_if_written_off: bool,
}

/// A point to recover to, with the log that `archive` keeps. None: as the backup alone has it.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PointArgs {
    /// All that had ended at this time, such as 2026-11-30T13:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) target_time: Option<Timestamp>,
    /// The log up to this position, such as 16/B374D848.
    #[arg(long, value_name = "LSN")]
    pub(crate) target_lsn: Option<String>,
    /// The end of this transaction.
    #[arg(long, value_name = "XID")]
    pub(crate) target_xid: Option<u32>,
    /// A point that pg_create_restore_point has named.
    #[arg(long, value_name = "NAME")]
    pub(crate) target_name: Option<String>,
    /// The moment at which the backup is consistent; then the server is promoted, or does what --action says.
    #[arg(long)]
    pub(crate) target_immediate: bool,
    /// All that was archived.
    #[arg(long)]
    pub(crate) target_latest: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ActionArg {
    /// It takes writes, on a timeline of its own.
    Promote,
    /// It can be read, and waits: pg_wal_replay_resume() promotes it.
    Pause,
    /// It ends.
    Shutdown,
}

impl From<ActionArg> for RecoveryAction {
    fn from(arg: ActionArg) -> Self {
        match arg {
            ActionArg::Promote => Self::Promote,
            ActionArg::Pause => Self::Pause,
            ActionArg::Shutdown => Self::Shutdown,
        }
    }
}

/// Reads `latest`, `current` or a number.
fn timeline(text: &str) -> Result<TimelineChoice, String> {
    match text {
        "latest" => Ok(TimelineChoice::Latest),
        "current" => Ok(TimelineChoice::Current),
        number => number
            .parse()
            .map(TimelineChoice::Number)
            .map_err(|_| "write latest, current or a number".to_owned()),
    }
}
