//! A server, and what is backed up of it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dbbackup_contract::{Method, TlsMode};

use super::repository::RepositoryArgs;
use crate::address::Address;
use crate::uri::ServerUri;

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
    /// How the server is read.
    #[arg(long, value_enum, default_value_t = MethodArg::Logical)]
    pub(crate) method: MethodArg,
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
pub(crate) enum MethodArg {
    /// As SQL, database by database: restored into any server of its version or a newer one.
    Logical,
    /// As files, all databases at once: restored (by the command recover) for a server of the same version.
    Physical,
}

impl From<MethodArg> for Method {
    fn from(arg: MethodArg) -> Self {
        match arg {
            MethodArg::Logical => Self::Logical,
            MethodArg::Physical => Self::Physical,
        }
    }
}
