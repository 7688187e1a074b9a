//! Opening the place where a repository is kept.

use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{Failure, Reason, S3Access, S3CredentialFiles, StorageAccess};
use dbbackup_engine::read_secret;
use dbbackup_storage::{CreateIfAbsent, ErrorKind, Store, TimedStore, VolumeOptions, VolumeStore};
use dbbackup_storage_s3::{Credentials, KeyFiles, S3Options, S3Store};

/// Where the repository is. No answer for `stall_timeout` is a failure that
/// names it: from here on nothing of a repository waits for ever.
pub(super) async fn store(
    access: &StorageAccess,
    stall_timeout: Duration,
) -> Result<Arc<dyn Store>, Failure> {
    match access {
        StorageAccess::Volume { path } => {
            let opening = VolumeStore::open(path, VolumeOptions::default());
            let shown = format!("the volume {path}");
            Ok(Arc::new(TimedStore::open(shown, stall_timeout, opening).await?))
        }
        StorageAccess::S3(access) => bucket(access, stall_timeout).await,
    }
}

async fn bucket(access: &S3Access, stall_timeout: Duration) -> Result<Arc<dyn Store>, Failure> {
    let owned = access.clone();
    // Off the caller's thread: a file may be a pipe that somebody has yet to fill.
    let reading = tokio::task::spawn_blocking(move || options(&owned));
    let options = reading.await.map_err(|error| {
        Failure::new(Reason::Internal, format!("the reading of secrets died: {error}"))
    })??;
    let shown = format!("the bucket {}", options.shown());
    let opened = TimedStore::open(shown.clone(), stall_timeout, S3Store::open(options)).await;
    let store = opened.map_err(|error| match error.kind {
        ErrorKind::Misconfigured => Failure::from(error).with_hint(
            "Correct bucket, region, endpoint, CA or credentials: in storage.s3 of the \
             BackupRepository, or in the address and the --s3-… flags. docs/storage.md shows how.",
        ),
        _ => error.into(),
    })?;
    if store.capabilities().create_if_absent != CreateIfAbsent::Obeyed {
        tracing::warn!(
            "{shown} does not keep what exists from being replaced; docs/storage.md says what is \
             weaker then"
        );
    }
    Ok(Arc::new(store))
}

fn options(access: &S3Access) -> Result<S3Options, Failure> {
    let ca_pem = access.ca.as_ref().map(|file| read_secret(file).map(|pem| pem.to_vec()));
    let storage_class = access.storage_class.as_deref().map(str::parse).transpose();
    Ok(S3Options {
        region: access.region.clone(),
        endpoint: access.endpoint.clone(),
        force_path_style: access.force_path_style,
        ca_pem: ca_pem.transpose()?,
        storage_class: storage_class.map_err(|why| Failure::new(Reason::InvalidSpec, why))?,
        credentials: credentials(access.credentials.as_ref())?,
        ..S3Options::new(&access.bucket, &access.prefix)
    })
}

/// The driver reads the files itself, and again while the run goes on. That they are
/// there is made sure of here, where it is known which Secret they belong to.
fn credentials(files: Option<&S3CredentialFiles>) -> Result<Credentials, Failure> {
    let Some(files) = files else { return Ok(Credentials::Ambient) };
    read_secret(&files.access_key_id)?;
    read_secret(&files.secret_access_key)?;
    Ok(Credentials::Files(KeyFiles {
        access_key_id: files.access_key_id.path(),
        secret_access_key: files.secret_access_key.path(),
        session_token: files.session_token.path(),
    }))
}
