//! The command line: every command and flag, as people read them in `--help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dbbackup_contract::{Bandwidth, GlobalsPolicy, TlsMode};
use dbbackup_repository::Kdf;
use jiff::Timestamp;

use crate::address::Address;
use crate::uri::{RepositoryUri, ServerUri};

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
pub(crate) struct RepositoryArgs {
    /// The repository: file:///absolute/path, s3://BUCKET/PREFIX,
    /// azure://ACCOUNT/CONTAINER/PREFIX or gs://BUCKET/PREFIX.
    #[arg(value_name = "REPO", value_parser = Address::<RepositoryUri>::parser())]
    pub(crate) repository: RepositoryUri,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    #[command(flatten)]
    pub(crate) azure: AzureArgs,
    #[command(flatten)]
    pub(crate) gcs: GcsArgs,
    /// Send no more to the repository, in bytes a second: 20M, 20MiB.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) upload_limit: Option<u64>,
    /// Read no more from it, in bytes a second.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) download_limit: Option<u64>,
    /// No byte for so long is an error.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = 1..)]
    stall_timeout: i64,
}

impl RepositoryArgs {
    /// No byte for so long is a stall.
    pub(crate) fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_timeout.unsigned_abs())
    }
}

/// Bytes a second: a number, perhaps with a unit.
fn parse_rate(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("", 1),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
    ];
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - unit.len()].parse::<u64>().ok();
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim_end_matches('B'));
    let rate = number.zip(factor).and_then(|(number, (_, factor))| number.checked_mul(*factor));
    let rate = rate.ok_or("write a number of bytes a second, such as 20M or 512KiB")?;
    if rate < Bandwidth::LEAST {
        return Err(format!("{} bytes a second is the least: write 100k", Bandwidth::LEAST));
    }
    Ok(rate)
}

/// How to reach a bucket.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Repositories in a bucket (s3://)")]
pub(crate) struct S3Args {
    /// Address of a server that is not AWS: <https://HOST:PORT>.
    #[arg(id = "s3_endpoint", long = "s3-endpoint", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The bucket's region; AWS_REGION or the profile's where not given.
    #[arg(id = "s3_region", long = "s3-region", value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// The bucket stands in the path, not in the host's name; most servers but AWS want that.
    #[arg(id = "s3_path_style", long = "s3-path-style")]
    pub(crate) path_style: bool,
    /// File with the CA's certificates (PEM); the system's where absent.
    #[arg(id = "s3_ca_file", long = "s3-ca-file", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Folder with the files accessKeyId, secretAccessKey and, if there is one,
    /// sessionToken; AWS's usual places (environment, profile, role) where not given.
    #[arg(id = "s3_credentials_dir", long = "s3-credentials-dir", value_name = "FOLDER")]
    pub(crate) credentials_dir: Option<PathBuf>,
    /// Class in which packs are kept; only classes that give them back at once.
    #[arg(id = "s3_storage_class", long = "s3-storage-class", value_name = "CLASS")]
    pub(crate) storage_class: Option<String>,
}

/// How to reach a container of Azure Blob Storage.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Repositories in Azure Blob Storage (azure://)")]
pub(crate) struct AzureArgs {
    /// Address of the account where it is not in the public cloud: <https://HOST:PORT>.
    #[arg(id = "azure_endpoint", long = "azure-endpoint", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// File with the CA's certificates (PEM); the system's where absent.
    #[arg(id = "azure_ca_file", long = "azure-ca-file", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Folder with the file sasToken or accountKey; the workload identity or managed
    /// identity of the environment where not given.
    #[arg(id = "azure_credentials_dir", long = "azure-credentials-dir", value_name = "FOLDER")]
    pub(crate) credentials_dir: Option<PathBuf>,
}

/// How to reach a bucket of Google Cloud Storage.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Repositories in Google Cloud Storage (gs://)")]
pub(crate) struct GcsArgs {
    /// Address of a server that is not the public one: <https://HOST:PORT>.
    #[arg(id = "gcs_endpoint", long = "gcs-endpoint", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// File with the CA's certificates (PEM); the system's where absent.
    #[arg(id = "gcs_ca_file", long = "gcs-ca-file", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with a service account's key (JSON); what GOOGLE_APPLICATION_CREDENTIALS
    /// names, or the workload identity, where not given.
    #[arg(id = "gcs_credentials_file", long = "gcs-credentials-file", value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct KeyArgs {
    /// File with a key of 32 bytes, raw or in base64.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// File with a passphrase; a line break at its end does not count.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The repository is not encrypted.
    #[arg(long)]
    pub(crate) no_encryption: bool,
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
    /// What happens to roles and other globals.
    #[arg(long, default_value = "skip")]
    pub(crate) globals: GlobalsArg,
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
