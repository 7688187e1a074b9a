//! Opening the place where a repository is kept.

use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{
    AzureAccess, Failure, GcsAccess, Reason, RepositoryAccess, S3Access, S3CredentialFiles,
    SecretFile, StorageAccess,
};
use dbbackup_engine::read_secret;
use dbbackup_storage::{
    CreateIfAbsent, ErrorKind, PacedStore, Store, TimedStore, VolumeOptions, VolumeStore,
};
use dbbackup_storage_clouds::{
    AzureCredentials, AzureKeyFiles, AzurePlace, CloudOptions, CloudStore, GcsCredentials,
    GcsPlace, Place,
};
use dbbackup_storage_s3::{Credentials, KeyFiles, S3Options, S3Store};

/// Where the repository is, used as fast as it may be.
///
/// # Errors
/// What the place says; `Stalled`.
pub(super) async fn store(
    access: &RepositoryAccess,
    stall_timeout: Duration,
) -> Result<Arc<dyn Store>, Failure> {
    let opened = place(&access.storage, access.mode.may_write(), stall_timeout).await;
    let store = opened.map_err(|failure| with_keys(failure, &access.storage))?;
    if access.bandwidth.is_unlimited() {
        return Ok(store);
    }
    Ok(Arc::new(PacedStore::new(store, access.bandwidth)))
}

/// A refusal names the Secret whose keys were refused: it may have been rotated.
fn with_keys(failure: Failure, access: &StorageAccess) -> Failure {
    let file = match access {
        StorageAccess::Volume { .. } => None,
        StorageAccess::S3(s3) => s3.credentials.as_ref().map(|files| &files.secret_access_key),
        StorageAccess::AzureBlob(azure) => {
            azure.credentials.as_ref().map(|files| &files.account_key)
        }
        StorageAccess::Gcs(gcs) => gcs.credentials.as_ref(),
    };
    match file.filter(|file| file.is_mounted()) {
        Some(file) if failure.reason == Reason::StoragePermissionDenied => {
            failure.with_hint(format!(
                "Correct the keys in {}{}, or give them the rights that docs/storage.md lists.",
                file.object,
                file.place()
            ))
        }
        _ => failure,
    }
}

/// Where the repository is. No answer for `stall_timeout` is a failure that
/// names it: from here on nothing of a repository waits for ever.
async fn place(
    access: &StorageAccess,
    writable: bool,
    stall_timeout: Duration,
) -> Result<Arc<dyn Store>, Failure> {
    match access {
        StorageAccess::Volume { path, .. } => {
            let options = VolumeOptions { writable, ..VolumeOptions::default() };
            let opening = VolumeStore::open(path, options);
            let shown = format!("the volume {path}");
            Ok(Arc::new(TimedStore::open(shown, stall_timeout, opening).await?))
        }
        StorageAccess::S3(access) => bucket(access, writable, stall_timeout).await,
        StorageAccess::AzureBlob(access) => {
            let owned = access.clone();
            let options = off_thread(move || azure(&owned)).await?;
            let options = CloudOptions { writable, ..options };
            let whose = "account, container, endpoint, CA or credentials: in storage.azureBlob";
            cloud(options, stall_timeout, whose, "--azure-…").await
        }
        StorageAccess::Gcs(access) => {
            let owned = access.clone();
            let options = off_thread(move || gcs(&owned)).await?;
            let options = CloudOptions { writable, ..options };
            let whose = "bucket, endpoint, CA or credentials: in storage.gcs";
            cloud(options, stall_timeout, whose, "--gcs-…").await
        }
    }
}

/// Reads secrets off the caller's thread: a file may be a pipe that somebody has yet to fill.
async fn off_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(read).await.map_err(|error| {
        Failure::new(Reason::Internal, format!("the reading of secrets died: {error}"))
    })?
}

async fn cloud(
    options: CloudOptions,
    stall_timeout: Duration,
    whose: &str,
    flags: &str,
) -> Result<Arc<dyn Store>, Failure> {
    let shown = options.shown();
    let opened = TimedStore::open(shown, stall_timeout, CloudStore::open(options)).await;
    let store = opened.map_err(|error| match error.kind {
        ErrorKind::Misconfigured => Failure::from(error).with_hint(format!(
            "Correct {whose} of the BackupRepository, or in the address and the {flags} flags. \
             docs/storage.md shows how."
        )),
        _ => error.into(),
    })?;
    Ok(Arc::new(store))
}

fn azure(access: &AzureAccess) -> Result<CloudOptions, Failure> {
    let credentials = match &access.credentials {
        None => AzureCredentials::Ambient,
        Some(files) => {
            // One of the two is enough; which one is missing is told by its name.
            read_secret(&files.sas_token).or_else(|_| read_secret(&files.account_key))?;
            AzureCredentials::Files(AzureKeyFiles {
                sas_token: files.sas_token.path(),
                account_key: files.account_key.path(),
            })
        }
    };
    let place = Place::Azure(AzurePlace {
        account: access.account.clone(),
        container: access.container.clone(),
        credentials,
    });
    Ok(CloudOptions {
        endpoint: access.endpoint.clone(),
        ca_pem: pem(access.ca.as_ref())?,
        ..CloudOptions::new(place, &access.prefix)
    })
}

fn gcs(access: &GcsAccess) -> Result<CloudOptions, Failure> {
    let credentials = match &access.credentials {
        None => GcsCredentials::Ambient,
        Some(file) => {
            read_secret(file)?;
            GcsCredentials::File(file.path())
        }
    };
    let place = Place::Gcs(GcsPlace { bucket: access.bucket.clone(), credentials });
    Ok(CloudOptions {
        endpoint: access.endpoint.clone(),
        ca_pem: pem(access.ca.as_ref())?,
        ..CloudOptions::new(place, &access.prefix)
    })
}

fn pem(ca: Option<&SecretFile>) -> Result<Option<Vec<u8>>, Failure> {
    ca.map(|file| read_secret(file).map(|pem| pem.to_vec())).transpose()
}

async fn bucket(
    access: &S3Access,
    writable: bool,
    stall_timeout: Duration,
) -> Result<Arc<dyn Store>, Failure> {
    let owned = access.clone();
    let options = off_thread(move || options(&owned)).await?;
    let options = S3Options { writable, ..options };
    let shown = format!("the bucket {}", options.shown());
    let opened = TimedStore::open(shown.clone(), stall_timeout, S3Store::open(options)).await;
    let store = opened.map_err(|error| match error.kind {
        ErrorKind::Misconfigured => Failure::from(error).with_hint(
            "Correct bucket, region, endpoint, CA or credentials: in storage.s3 of the \
             BackupRepository, or in the address and the --s3-… flags. docs/storage.md shows how.",
        ),
        _ => error.into(),
    })?;
    // Two runs would believe that the same object is theirs, and the first `init` of two
    // would lose its key.
    if writable && store.capabilities().create_if_absent != CreateIfAbsent::Obeyed {
        let message = format!(
            "{shown}: the server replaces what exists, though it is asked not to (If-None-Match)"
        );
        return Err(Failure::new(Reason::StorageUnsuitable, message).with_hint(
            "Use a server that obeys conditional writes, or a version of it that does; \
             docs/storage.md names some. If a proxy takes the header away, let it pass.",
        ));
    }
    Ok(Arc::new(store))
}

fn options(access: &S3Access) -> Result<S3Options, Failure> {
    let storage_class = access.storage_class.as_deref().map(str::parse).transpose();
    Ok(S3Options {
        region: access.region.clone(),
        endpoint: access.endpoint.clone(),
        force_path_style: access.force_path_style,
        ca_pem: pem(access.ca.as_ref())?,
        storage_class: storage_class.map_err(|why| Failure::new(Reason::InvalidSpec, why))?,
        object_lock: access.object_lock,
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
