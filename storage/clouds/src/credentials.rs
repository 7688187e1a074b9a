//! Who asks: keys in files, or whoever the environment says that we are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dbbackup_storage::ErrorKind;
use object_store::azure::{AzureAccessKey, AzureCredential, MicrosoftAzureBuilder, split_sas};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{CredentialProvider, RetryConfig};
use zeroize::Zeroizing;

use crate::client::Credentialing;
use crate::failure::Failed;

/// No key or token is longer, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// A Secret that is renewed while a long run goes on is taken up by it.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// Where credentials of Azure come from. Nobody at all (anonymous) is not among it: a
/// container that anybody may write is no place for backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureCredentials {
    /// A key in a file.
    Files(AzureKeyFiles),
    /// What the environment gives: a workload identity where it names a token file
    /// (`AZURE_FEDERATED_TOKEN_FILE`), else the machine's managed identity.
    Ambient,
}

/// Files with a key, read again every minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureKeyFiles {
    /// File with a shared access signature; it may be missing.
    pub sas_token: PathBuf,
    /// File with the account's key, which is used where there is no signature.
    pub account_key: PathBuf,
}

impl AzureKeyFiles {
    /// The files `sasToken` and `accountKey` of a folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { sas_token: folder.join("sasToken"), account_key: folder.join("accountKey") }
    }

    fn read(&self) -> Result<AzureCredential, String> {
        if let Some(token) = read(&self.sas_token)? {
            let pairs = split_sas(&token).map_err(|_| {
                format!("{} holds no signature (sv=…&sig=…)", self.sas_token.display())
            })?;
            return Ok(AzureCredential::SASToken(pairs));
        }
        let shown = self.account_key.display();
        let key = read(&self.account_key)?
            .ok_or_else(|| format!("neither {shown} nor {} exists", self.sas_token.display()))?;
        let key = AzureAccessKey::try_new(&key)
            .map_err(|_| format!("{shown} cannot be read: an account key is base64"))?;
        Ok(AzureCredential::AccessKey(key))
    }
}

/// Where credentials of Google Cloud come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GcsCredentials {
    /// A file with a service account's key, or with the credentials of a user (JSON).
    File(PathBuf),
    /// What the environment gives: the file that `GOOGLE_APPLICATION_CREDENTIALS`
    /// names, what `gcloud auth application-default login` left, or else the metadata
    /// server (workload identity, a machine's service account).
    Ambient,
}

/// Gives credentials, and renews them in time.
#[derive(Debug)]
pub(crate) struct Provider<C>(Arc<dyn CredentialProvider<Credential = C>>);

impl<C> Provider<C> {
    /// Credentials that hold now.
    pub(crate) async fn get(&self) -> Result<Arc<C>, Failed> {
        self.0.get_credential().await.map_err(|error| {
            match dbbackup_storage::causes(&error)
                .find_map(|error| error.downcast_ref::<Unusable>())
            {
                Some(unusable) => Failed::new(ErrorKind::Misconfigured, &unusable.0),
                None => Failed::without_credentials(&error),
            }
        })
    }
}

/// The credentials for an account.
///
/// # Errors
/// What the environment lacks.
pub(crate) fn azure(
    account: &str,
    from: &AzureCredentials,
) -> Result<Provider<AzureCredential>, String> {
    let files = match from {
        AzureCredentials::Files(files) => files.clone(),
        AzureCredentials::Ambient => return ambient_azure(account),
    };
    Ok(Provider(Arc::new(AzureFiles { files, kept: Mutex::default() })))
}

/// The variables are those that AKS puts into a pod, and App Service beside a program.
fn ambient_azure(account: &str) -> Result<Provider<AzureCredential>, String> {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name("unused")
        .with_retry(never_again())
        .with_http_connector(Credentialing);
    if let Some(id) = said("AZURE_CLIENT_ID") {
        builder = builder.with_client_id(id);
    }
    builder = match said("AZURE_FEDERATED_TOKEN_FILE") {
        Some(file) => {
            let needed = |name| said(name).ok_or_else(|| format!("{name} is not set"));
            needed("AZURE_CLIENT_ID")?;
            let authority = said("AZURE_AUTHORITY_HOST");
            if let Some(host) = authority {
                builder = builder.with_authority_host(host.trim_end_matches('/'));
            }
            builder
                .with_tenant_id(needed("AZURE_TENANT_ID")?)
                .with_federated_token_file(file)
                .with_credential_type("workload_identity")
        }
        None => {
            if let Some(endpoint) = said("IDENTITY_ENDPOINT") {
                builder = builder.with_msi_endpoint(endpoint);
            }
            builder.with_credential_type("managed_identity")
        }
    };
    let store = builder.build().map_err(|error| error.to_string())?;
    Ok(Provider(Arc::clone(store.credentials())))
}

/// The credentials for a bucket.
///
/// # Errors
/// What is wrong with a file.
pub(crate) fn gcs(bucket: &str, from: &GcsCredentials) -> Result<Provider<GcpCredential>, String> {
    let said =
        || std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").filter(|name| !name.is_empty());
    let file = match from {
        GcsCredentials::File(file) => Some(file.clone()),
        GcsCredentials::Ambient => said().map(PathBuf::from),
    };
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(never_again())
        .with_http_connector(Credentialing);
    if let Some(file) = &file {
        let shown = file.display();
        if read(file)?.is_none() {
            return Err(format!("{shown} does not exist"));
        }
        let path = file.to_str().ok_or_else(|| format!("{shown} is not UTF-8"))?;
        builder = builder.with_application_credentials(path);
    }
    // What the library says of a file might show a part of it.
    let store = builder.build().map_err(|_| match file {
        Some(file) => format!(
            "{} holds neither a service account's key nor a user's credentials (JSON)",
            file.display()
        ),
        None => "the application default credentials cannot be used".to_owned(),
    })?;
    Ok(Provider(Arc::clone(store.credentials())))
}

/// Who repeats is the store: it knows what a request is for.
fn never_again() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Credentials that are said and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

struct AzureFiles {
    files: AzureKeyFiles,
    kept: Mutex<Option<(Instant, Arc<AzureCredential>)>>,
}

impl std::fmt::Debug for AzureFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureFiles").field("files", &self.files).finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for AzureFiles {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, credential)) = kept.filter(|(read, _)| read.elapsed() < READ_AGAIN) {
            return Ok(credential);
        }
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let read = read.unwrap_or_else(|died| Err(format!("the reading of a key died: {died}")));
        let credential = Arc::new(read.map_err(|why| object_store::Error::Generic {
            store: "credentials",
            source: Box::new(Unusable(why)),
        })?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((Instant::now(), Arc::clone(&credential)));
        Ok(credential)
    }
}

/// The content of a file, without what is blank around it; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>, String> {
    let unreadable =
        |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_BYTES => return Err(unreadable(&"it is too large")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let content = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|e| unreadable(&e))?;
    let trimmed = content.trim();
    if trimmed.is_empty() {
        return Err(unreadable(&"it is empty"));
    }
    Ok(Some(Zeroizing::new(trimmed.to_owned())))
}
