//! The commands that people type. Each turns its flags into what a task would
//! say, lets `work` do it, and prints the outcome.

mod backup;
mod check;
mod fetch;
mod hints;
mod init;
mod inspect;
pub(crate) mod print;
mod restore;
mod run;
mod snapshots;
mod store;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dbbackup_contract::{
    CredentialFiles, EncryptionAccess, ExitCode, Failure, KeyAccess, KeyKind, PostgresqlAccess,
    Reason, RepositoryAccess, S3Access, S3CredentialFiles, SecretFile, StorageAccess, TlsAccess,
    UserName,
};
use dbbackup_repository::Repository;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command, KeyArgs, RepositoryArgs, S3Args, ServerArgs};
use crate::patience::unless_stopped;
use crate::uri::RepositoryUri;
use crate::work;

/// Runs one command. The exit code says how it ended; a failure has not been printed yet.
pub(crate) async fn run(cli: Cli, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Init(args) => init::init(args, cancel).await,
        Command::Backup(args) => backup::backup(args, cancel).await,
        Command::Restore(args) => restore::restore(args, cancel).await,
        Command::Snapshots(args) => {
            named(&args.repository.repository.to_string(), snapshots::snapshots(args, cancel)).await
        }
        Command::Store(args) => {
            named(&args.repository.repository.to_string(), store::store(args, cancel)).await
        }
        Command::Fetch(args) => fetch::fetch(args, cancel).await,
        Command::Check(args) => {
            named(&args.repository.repository.to_string(), check::check(args, cancel)).await
        }
        Command::Inspect(args) => inspect::inspect(args, cancel).await,
        Command::Run(args) => run::run(args, cancel).await,
    }
}

/// Work on one repository, whose failures name it. (Where there is a report, it does.)
async fn named(
    repository: &str,
    work: impl Future<Output = Result<ExitCode, Failure>>,
) -> Result<ExitCode, Failure> {
    work.await.map_err(|failure| work::named(failure, repository))
}

/// Opens the repository that a person named.
async fn open(args: &RepositoryArgs, cancel: &CancellationToken) -> Result<Repository, Failure> {
    let access = repository_access(args)?;
    unless_stopped(cancel, work::open(&access, args.stall_timeout())).await
}

/// What a task would say of this repository.
fn repository_access(args: &RepositoryArgs) -> Result<RepositoryAccess, Failure> {
    let storage = match &args.repository {
        RepositoryUri::File(_) if args.s3 != S3Args::default() => {
            let message = "the --s3-… flags are for repositories in a bucket (s3://)";
            return Err(Failure::new(Reason::UsageError, message));
        }
        RepositoryUri::File(path) => {
            let path = path.to_str().ok_or_else(|| {
                Failure::new(Reason::UsageError, format!("{} is not UTF-8", path.display()))
            })?;
            StorageAccess::Volume { path: path.to_owned() }
        }
        RepositoryUri::S3 { bucket, prefix } => {
            StorageAccess::S3(Box::new(s3_access(bucket, prefix, &args.s3)?))
        }
    };
    Ok(RepositoryAccess {
        name: args.repository.to_string(),
        storage,
        encryption: encryption_access(&args.key)?,
        expected_id: None,
    })
}

/// What a task would say of this bucket.
fn s3_access(bucket: &str, prefix: &str, args: &S3Args) -> Result<S3Access, Failure> {
    let credentials = args.credentials_dir.as_deref().map(|folder| {
        Ok::<_, Failure>(S3CredentialFiles {
            access_key_id: local_file(&folder.join("accessKeyId"))?,
            secret_access_key: secret_file(&folder.join("secretAccessKey"))?,
            session_token: secret_file(&folder.join("sessionToken"))?,
        })
    });
    Ok(S3Access {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
        force_path_style: args.path_style,
        ca: args.ca_file.as_deref().map(local_file).transpose()?,
        storage_class: args.storage_class.clone(),
        credentials: credentials.transpose()?,
    })
}

fn encryption_access(args: &KeyArgs) -> Result<EncryptionAccess, Failure> {
    let key = |kind, path: &Path| {
        Ok(EncryptionAccess::Keys(vec![KeyAccess {
            name: path.display().to_string(),
            kind,
            file: secret_file(path)?,
        }]))
    };
    match (&args.key_file, &args.passphrase_file) {
        (Some(path), _) => key(KeyKind::Key, path),
        (None, Some(path)) => key(KeyKind::Passphrase, path),
        // The parser has made sure that one of the three was said.
        (None, None) => Ok(EncryptionAccess::None {}),
    }
}

/// What a task would say of this server.
fn server_access(args: &ServerArgs) -> Result<PostgresqlAccess, Failure> {
    Ok(PostgresqlAccess {
        host: args.server.host.clone(),
        port: args.server.port,
        credentials: CredentialFiles {
            username: UserName::Literal(args.server.user.clone()),
            password: args.password_file.as_deref().map(secret_file).transpose()?,
        },
        tls: TlsAccess {
            mode: args.tls.into(),
            ca: args.ca_file.as_deref().map(local_file).transpose()?,
            ..TlsAccess::default()
        },
    })
}

/// A file that only its owner should read. One that everybody can read is used all
/// the same: it may be the only copy of the key on the day that it is needed.
fn secret_file(path: &Path) -> Result<SecretFile, Failure> {
    let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
    if found.is_some_and(|file| file.mode() & 0o004 != 0) {
        let shown = path.display();
        print::aside(&format!(
            "warning: {shown} can be read by every user of this machine\nhint: chmod 600 {shown}"
        ));
    }
    local_file(path)
}

/// A file on this machine, in the shape of a mounted secret.
fn local_file(path: &Path) -> Result<SecretFile, Failure> {
    let unusable =
        || Failure::new(Reason::UsageError, format!("{} is no path of a file", path.display()));
    let absolute = std::path::absolute(path).map_err(|_| unusable())?;
    let (Some(dir), Some(key)) = (absolute.parent(), absolute.file_name()) else {
        return Err(unusable());
    };
    let text = |part: &std::ffi::OsStr| part.to_str().map(str::to_owned).ok_or_else(unusable);
    Ok(SecretFile::local(text(dir.as_os_str())?, text(key)?))
}
