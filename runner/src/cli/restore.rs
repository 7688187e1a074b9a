//! Flags of `restore`.

use clap::{Args, ValueEnum};
use dbbackup_contract::{GlobalsPolicy, OnError};

use super::repository::RepositoryArgs;
use super::server::ServerArgs;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum GlobalsArg {
    /// Leave roles alone; refuse the restore where one is missing.
    Skip,
    /// Create the roles that are missing; leave the others as they are.
    Merge,
}

impl From<GlobalsArg> for GlobalsPolicy {
    fn from(arg: GlobalsArg) -> Self {
        match arg {
            GlobalsArg::Skip => Self::Skip,
            GlobalsArg::Merge => Self::Merge,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StrategyArg {
    /// A database that exists stays, and the restore of that one is refused.
    CreateNew,
    /// It is kept as `NAME_before_TIME`; the output has the statements that undo it.
    Swap,
    /// It is dropped.
    Overwrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnErrorArg {
    /// Create none where one is refused; begin no other after one that fails.
    Stop,
    /// Restore the others.
    Continue,
}

impl From<OnErrorArg> for OnError {
    fn from(arg: OnErrorArg) -> Self {
        match arg {
            OnErrorArg::Stop => Self::Stop,
            OnErrorArg::Continue => Self::Continue,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The snapshot's id, or as many of its first characters as make it unique.
    pub(crate) snapshot: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Database to restore; all of the snapshot where not given.
    #[arg(long = "database", value_name = "NAME")]
    pub(crate) databases: Vec<String>,
    /// New name of the database; give one for each --database, or none.
    #[arg(long = "as", value_name = "NAME", requires = "databases")]
    pub(crate) as_names: Vec<String>,
    /// Only this schema of the database, and what it needs: a name as in SQL, in lower case unless
    /// it is in quotes.
    #[arg(long = "schema", value_name = "SCHEMA", requires = "databases")]
    pub(crate) schemas: Vec<String>,
    /// Only this table of the database, and what it needs: names as in SQL, such as sales.orders
    /// and 'sales."Odd table"'.
    #[arg(long = "table", value_name = "SCHEMA.NAME", requires = "databases")]
    pub(crate) tables: Vec<String>,
    /// What happens to roles and other globals.
    #[arg(long, default_value = "skip")]
    pub(crate) globals: GlobalsArg,
    /// The restoring role owns what comes back; what concerns roles that the target lacks is left
    /// out.
    #[arg(long)]
    pub(crate) no_owner: bool,
    /// A role of the target that stands for a role of the backup: as owner, in privileges,
    /// policies and settings. Code and expressions are left as they are.
    #[arg(long = "role-map", value_name = "OLD=NEW")]
    pub(crate) role_map: Vec<String>,
    /// What becomes of a database that exists under the name of a restored one: `create-new`
    /// refuses, `swap` keeps it as NAME_before_TIME, `overwrite` drops it. Both put the restored
    /// one in its place at one moment, when it is loaded and compared.
    #[arg(long, value_enum, default_value = "create-new")]
    pub(crate) strategy: StrategyArg,
    /// With `overwrite`: the name of each database that may be dropped.
    #[arg(long, value_name = "NAME")]
    pub(crate) confirm: Vec<String>,
    /// With `swap` and `overwrite`: end the sessions on the database; otherwise the restore is
    /// refused while there are any.
    #[arg(long)]
    pub(crate) terminate_sessions: bool,
    /// With `swap` and `overwrite`: how long to wait for sessions to end and for other transactions.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) lock_timeout: String,
    /// What becomes of the other databases when one is refused, or fails: `stop` creates none, or
    /// begins no other; `continue` restores them.
    #[arg(long, value_enum, default_value = "stop")]
    pub(crate) on_error: OnErrorArg,
    /// What a restored database must answer with true before it is put in place: its name in the
    /// backup, and a query that gives one boolean.
    #[arg(long = "assert", value_name = "DATABASE=QUERY")]
    pub(crate) assertions: Vec<String>,
    /// Say what would be done, and do nothing.
    #[arg(long, conflicts_with = "approved_plan")]
    pub(crate) dry_run: bool,
    /// Go on only if this is what would be done: the digest that --dry-run has printed.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) approved_plan: Option<String>,
    /// Restore it though it was written off: what is lost of it fails.
    #[arg(long)]
    pub(crate) even_if_written_off: bool,
    /// Identity of the restore: give the same one to go on with a restore that was killed.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
