//! The command line: every command and flag, as people read them in `--help`.

mod copy;
mod repository;
mod retention;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dbbackup_contract::{GlobalsPolicy, OnError, TlsMode};
use dbbackup_repository::{Cutting, DEFAULT_COMPRESSION_LEVEL, Kdf};
use jiff::Timestamp;

pub(crate) use self::copy::CopyArgs;
pub(crate) use self::repository::{AzureArgs, GcsArgs, KeyArgs, RepositoryArgs, S3Args};
pub(crate) use self::retention::{ForgetArgs, PinArgs, PruneArgs, RuleArgs};
use crate::address::Address;
use crate::uri::ServerUri;

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed, another try may succeed; 64 wrong usage; 65 some databases done, \
others failed; 66 not found; 67 denied; 68 secret missing; 69 wrong key; 70 fault of this program; \
71 conflict; 72 damaged; 73 incompatible; 74 no space; 75 refused by the server.";

/// Backs up databases into an encrypted, deduplicating repository, and brings them back.
#[derive(Debug, Parser)]
#[command(name = "dbbackup-runner", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Whether a Job runs this: its log is then the only thing to look at.
    pub(crate) fn is_for_a_job(&self) -> bool {
        matches!(self.command, Command::Run(_))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a repository, or open it where it exists.
    Init(InitArgs),
    /// List, add and remove the keys that open a repository.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Back up databases of a server.
    Backup(BackupArgs),
    /// Restore databases of a snapshot as new databases.
    Restore(RestoreArgs),
    /// List the snapshots of a repository, oldest first.
    Snapshots(SnapshotsArgs),
    /// Store any bytes: standard input, a file, a folder, or what a program writes.
    Store(StoreArgs),
    /// Give back what `store` stored.
    Fetch(FetchArgs),
    /// Copy snapshots to a second repository, without reading the databases again.
    Copy(Box<CopyArgs>),
    /// Look whether everything that the snapshots need is there and whole.
    Check(CheckArgs),
    /// Say which snapshots can no longer be restored. Nothing is deleted or made up.
    Repair(RepairArgs),
    /// Let snapshots go that no rule keeps; `prune` frees their space.
    Forget(ForgetArgs),
    /// Delete what no snapshot uses, in two steps: call it again after the grace period.
    Prune(PruneArgs),
    /// Pin a snapshot: nothing lets it go until it is unpinned.
    Pin(PinArgs),
    /// Take a pin back.
    Unpin(PinArgs),
    /// Look up what became of a run, and make sure that it can no longer commit if it has not.
    Inspect(InspectArgs),
    /// Carry out the task of a Kubernetes Job.
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Refuse what is not a repository yet.
    #[arg(long)]
    pub(crate) never_create: bool,
    /// How the passphrase of a new repository is stretched.
    #[arg(long, value_name = "KDF", default_value = "pbkdf2")]
    pub(crate) kdf: KdfArg,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KdfArg {
    /// PBKDF2-HMAC-SHA256 with 600,000 rounds, which FIPS approves.
    Pbkdf2,
    /// Argon2id with 64 MiB and 3 passes: each guess of an attacker costs memory, too.
    Argon2id,
}

impl From<KdfArg> for Kdf {
    fn from(arg: KdfArg) -> Self {
        match arg {
            KdfArg::Pbkdf2 => Self::Pbkdf2,
            KdfArg::Argon2id => Self::Argon2id,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the key slots, and which of them the given key opens.
    List(KeyListArgs),
    /// Add a key slot, so that another key or passphrase opens the repository, too.
    Add(KeyAddArgs),
    /// Remove a key slot; the given key must open another one.
    Remove(KeyRemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeyListArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Print a list of objects, with `slot` in each.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeyAddArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    #[command(flatten)]
    pub(crate) new: NewKeyArgs,
    /// Name of the new key, for lists; its file's name where not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How the new passphrase is stretched.
    #[arg(long, value_name = "KDF", default_value = "pbkdf2")]
    pub(crate) kdf: KdfArg,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct NewKeyArgs {
    /// File with the new key: 32 bytes, raw or in base64.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// File with the new passphrase; a line break at its end does not count.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyRemoveArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The slot's id or as many of its first characters as make it unique, or its name.
    pub(crate) slot: String,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server, without a password: postgresql://USER@HOST:5432[/DATABASE].
    #[arg(value_name = "SERVER", value_parser = Address::<ServerUri>::parser())]
    pub(crate) server: ServerUri,
    /// File with the password; a line break at its end does not count.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// What the connection must prove about the server.
    #[arg(long, value_name = "MODE", default_value = "verify-full")]
    pub(crate) tls: TlsArg,
    /// File with the CA's certificates (PEM); the system's where absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with our own certificate (PEM), where the server asks for one.
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    pub(crate) client_certificate_file: Option<PathBuf>,
    /// File with the key of that certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "client_certificate_file")]
    pub(crate) client_key_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TlsArg {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl From<TlsArg> for TlsMode {
    fn from(arg: TlsArg) -> Self {
        match arg {
            TlsArg::Disable => Self::Disable,
            TlsArg::Prefer => Self::Prefer,
            TlsArg::Require => Self::Require,
            TlsArg::VerifyCa => Self::VerifyCa,
            TlsArg::VerifyFull => Self::VerifyFull,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Database to take; * and ? are wildcards. All of the server where not given.
    #[arg(long = "database", value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Database to leave out; * and ? are wildcards.
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Name of the series: later backups under the same name share what did not change.
    #[arg(long, value_name = "NAME")]
    pub(crate) series: Option<String>,
    /// SQL that the server carries out in a database before anything is read; without it there is
    /// no backup.
    #[arg(long, value_name = "DATABASE=SQL")]
    pub(crate) before: Vec<String>,
    /// The same when the backup has ended, well or not. One that fails is told.
    #[arg(long, value_name = "DATABASE=SQL")]
    pub(crate) after: Vec<String>,
    /// How long each of them may take.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(crate) hook_timeout: String,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

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

#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Only the snapshots of this series.
    #[arg(long, value_name = "NAME")]
    pub(crate) series: Option<String>,
    /// Print a list of objects, with `id` in each, oldest first.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Name of the series: what is stored under the same name shares what did not change.
    pub(crate) name: String,
    /// A file or a folder; standard input where not given.
    #[arg(long, value_name = "PATH", conflicts_with = "command")]
    pub(crate) path: Option<PathBuf>,
    /// How streams are cut: `content` finds what has moved; `fixed:BYTES` suits pages that
    /// change in place, such as a stopped server's data folder (PostgreSQL 8192, InnoDB 16384).
    #[arg(long, value_name = "HOW", default_value = "content", value_parser = chunking)]
    pub(crate) chunking: Cutting,
    /// zstd's level: higher ones store less and take longer.
    #[arg(long, value_name = "LEVEL", default_value_t = DEFAULT_COMPRESSION_LEVEL,
        value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(crate) compression_level: i32,
    /// A program and its arguments: its standard output is stored if it ends with exit code 0.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The snapshot's id, or as many of its first characters as make it unique.
    pub(crate) snapshot: String,
    /// Give back what is left of it though it was written off.
    #[arg(long)]
    pub(crate) even_if_written_off: bool,
    /// Write below this folder, which must be empty or absent; standard output where not given.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) target: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// How thorough: that everything exists, that its tables are whole, or every byte.
    #[arg(long, value_name = "LEVEL", default_value = "footers")]
    pub(crate) level: CheckLevelArg,
    /// Read the bytes of a share of the packs, such as 5%: other ones each day.
    #[arg(long, value_name = "PERCENT", conflicts_with = "level", value_parser = share)]
    pub(crate) read_data: Option<u16>,
    /// Number of the check, which says what --read-data reads; that of the day where not given.
    #[arg(long, value_name = "NUMBER", requires = "read_data")]
    pub(crate) check_number: Option<u64>,
    /// Print the findings as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How streams are cut: `content`, or `fixed:BYTES`.
fn chunking(text: &str) -> Result<Cutting, String> {
    if text == "content" {
        return Ok(Cutting::default());
    }
    let bytes = text.strip_prefix("fixed:").and_then(|bytes| bytes.parse().ok());
    let bytes = bytes.ok_or("say content or fixed:BYTES")?;
    Cutting::fixed(bytes).map_err(|error| error.to_string())
}

/// A share in hundredths of a percent: `5%`, `0.25%`, `100`.
fn share(text: &str) -> Result<u16, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hundredths = Some(())
        .filter(|()| digits(whole) && digits(part) && part.len() <= 2)
        .and_then(|()| format!("{whole}{part:0<2}").parse::<u16>().ok())
        .filter(|hundredths| (1..=10_000).contains(hundredths));
    hundredths.ok_or_else(|| "give a percentage from 0.01% to 100%".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Snapshot to write off, though some of it may be left; those of which nothing is left
    /// where not given.
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) write_off: Vec<String>,
    /// Why, in words: what a later reader should know.
    #[arg(long, value_name = "TEXT", requires = "write_off")]
    pub(crate) reason: Option<String>,
    /// Do what the plan says; without it, the plan is only printed.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print the plan as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CheckLevelArg {
    /// Manifests are readable and every pack is there with the right size.
    Structure,
    /// The tables of every pack are whole too.
    Footers,
    /// Every byte is read, decrypted and compared.
    Data,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The run's series.
    #[arg(long)]
    pub(crate) series: String,
    /// The run's id.
    #[arg(long)]
    pub(crate) run: String,
    /// The run's slot (RFC 3339), which is part of its snapshot's name.
    #[arg(long)]
    pub(crate) slot: Timestamp,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The task, as JSON.
    #[arg(long, value_name = "FILE", default_value = dbbackup_contract::TASK_FILE)]
    pub(crate) task: PathBuf,
}
