//! The command line: every command and flag, as people read them in `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dbbackup_contract::{GlobalsPolicy, TlsMode};
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
    /// Back up databases of a server.
    Backup(BackupArgs),
    /// Restore databases of a snapshot as new databases.
    Restore(RestoreArgs),
    /// List the snapshots of a repository, oldest first.
    Snapshots(SnapshotsArgs),
    /// Store any bytes: standard input, a file or a folder.
    Store(StoreArgs),
    /// Give back what `store` stored.
    Fetch(FetchArgs),
    /// Look whether everything that the snapshots need is there and whole.
    Check(CheckArgs),
    /// Look up what became of a run, and make sure that it can no longer commit if it has not.
    Inspect(InspectArgs),
    /// Carry out the task of a Kubernetes Job.
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RepositoryArgs {
    /// The repository: file:///absolute/path or s3://BUCKET/PREFIX.
    #[arg(value_name = "REPO", value_parser = Address::<RepositoryUri>::parser())]
    pub(crate) repository: RepositoryUri,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
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

/// How to reach a bucket.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Repositories in a bucket (s3://)")]
pub(crate) struct S3Args {
    /// Address of a server that is not AWS: https://HOST[:PORT].
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
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
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
    /// Print the findings as JSON.
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
