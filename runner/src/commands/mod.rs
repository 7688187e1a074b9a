//! The commands that people type. Each turns its flags into what a task would
//! say, lets `work` do it, and prints the outcome.

mod archive;
mod backup;
mod check;
mod copy;
mod fetch;
mod forget;
mod hints;
mod init;
mod inspect;
mod key;
mod pin;
mod place_shim;
pub(crate) mod print;
mod prune;
mod recover;
mod repair;
mod restore;
mod run;
mod snapshots;
mod sql_names;
mod storage;
mod store;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dbbackup_contract::{
    AccessMode, Bandwidth, CredentialFiles, EncryptionAccess, ExitCode, Failure, KeyAccess,
    KeyKind, PostgresqlAccess, Reason, RepositoryAccess, SecretFile, TlsAccess, UserName,
};
use dbbackup_repository::Repository;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command, KeyArgs, RepositoryArgs, ServerArgs};
use crate::patience::unless_stopped;
use crate::work;

/// Runs one command. The exit code says how it ended; a failure has not been printed yet.
pub(crate) async fn run(cli: Cli, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Init(args) => init::init(args, cancel).await,
        Command::Key(command) => {
            let repository = key::repository(&command).to_string();
            named(&repository, key::key(command, cancel)).await
        }
        Command::Backup(args) => backup::backup(args, cancel).await,
        Command::Restore(args) => restore::restore(args, cancel).await,
        Command::Snapshots(args) => {
            named(&args.repository.repository.to_string(), snapshots::snapshots(args, cancel)).await
        }
        Command::Store(args) => {
            named(&args.repository.repository.to_string(), store::store(args, cancel)).await
        }
        Command::Copy(args) => copy::copy(*args, cancel).await,
        Command::Archive(args) => archive::archive(args, cancel).await,
        Command::Recover(args) => recover::recover(args, cancel).await,
        Command::Fetch(args) => fetch::fetch(args, cancel).await,
        Command::Check(args) => {
            named(&args.repository.repository.to_string(), check::check(args, cancel)).await
        }
        Command::Repair(args) => {
            named(&args.repository.repository.to_string(), repair::repair(args, cancel)).await
        }
        Command::Forget(args) => {
            named(&args.repository.repository.to_string(), forget::forget(args, cancel)).await
        }
        Command::Prune(args) => {
            named(&args.repository.repository.to_string(), prune::prune(args, cancel)).await
        }
        Command::Pin(args) => {
            named(&args.repository.repository.to_string(), pin::pin(args, cancel)).await
        }
        Command::Unpin(args) => {
            named(&args.repository.repository.to_string(), pin::unpin(args, cancel)).await
        }
        Command::Inspect(args) => inspect::inspect(args, cancel).await,
        Command::Run(args) => run::run(args, cancel).await,
        Command::PlaceShim(args) => place_shim::place_shim(&args),
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
    Ok(RepositoryAccess {
        name: args.repository.to_string(),
        storage: storage::access(args)?,
        encryption: encryption_access(&args.key)?,
        expected_id: None,
        mode: if args.read_only { AccessMode::ReadOnly } else { AccessMode::ReadWrite },
        bandwidth: Bandwidth { upload: args.upload_limit, download: args.download_limit },
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
            client_certificate: args
                .client_certificate_file
                .as_deref()
                .map(local_file)
                .transpose()?,
            client_key: args.client_key_file.as_deref().map(secret_file).transpose()?,
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
