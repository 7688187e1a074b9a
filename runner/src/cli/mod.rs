//! The command line: every command and flag, as people read them in `--help`.

mod copy;
mod key;
mod recover;
mod repository;
mod restore;
mod retention;
mod server;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dbbackup_repository::{Cutting, DEFAULT_COMPRESSION_LEVEL, Kdf};
use jiff::Timestamp;

pub(crate) use self::copy::CopyArgs;
pub(crate) use self::key::{KeyAddArgs, KeyCommand, KeyListArgs, KeyRemoveArgs, NewKeyArgs};
pub(crate) use self::recover::{ArchiveArgs, RecoverArgs};
pub(crate) use self::repository::{AzureArgs, GcsArgs, KeyArgs, RepositoryArgs, S3Args};
pub(crate) use self::restore::{RestoreArgs, StrategyArg};
pub(crate) use self::retention::{ForgetArgs, PinArgs, PruneArgs, RuleArgs};
pub(crate) use self::server::{BackupArgs, ServerArgs};

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
        matches!(self.command, Command::Run(_) | Command::PlaceShim(_))
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
    /// Keep the log of a server as it is written, until stopped: what a physical backup can be brought
    /// forward with, to any moment.
    Archive(ArchiveArgs),
    /// Put the files of a physical backup into a folder, for a server to be started on.
    Recover(RecoverArgs),
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
    /// Put the program that starts a recovered server where the server's container runs it.
    #[command(hide = true)]
    PlaceShim(PlaceShimArgs),
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

#[derive(Debug, Args)]
pub(crate) struct PlaceShimArgs {
    /// The program, as it lies in this image.
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/dbbackup-shim")]
    pub(crate) from: PathBuf,
    /// Where it is put, in the place of an older one.
    #[arg(long, value_name = "FILE", default_value = dbbackup_contract::SHIM_FILE)]
    pub(crate) to: PathBuf,
}
