//! What is said of a bucket, and what of it is refused before anything is asked.

use dbbackup_storage::{Error, ErrorKind, Limits, Operation, Result, RetryPolicy};
use url::Url;

use crate::{AzureCredentials, GcsCredentials};

/// The limit of both clouds is 1024 bytes or letters; a name of ours has 512 at most.
const MAX_PREFIX_BYTES: usize = 500;

/// Where the objects are and how they are reached.
#[derive(Clone, Debug)]
pub struct CloudOptions {
    /// Whose bucket.
    pub place: Place,
    /// What all keys begin with, without slashes around it; empty: nothing.
    pub prefix: String,
    /// Address of a server that is not the cloud's public one.
    pub endpoint: Option<String>,
    /// The only authorities (PEM) that may sign the server's certificate; the
    /// system's where absent.
    pub ca_pem: Option<Vec<u8>>,
    /// Whether anything may be written. A store that may not is not probed either, and
    /// needs no more than the rights to list and read.
    pub writable: bool,
    /// How long an answer may take.
    pub limits: Limits,
    /// How opening and the pages of a listing are repeated.
    pub retry: RetryPolicy,
}

/// A bucket of one of the clouds. It is never created.
#[derive(Clone, Debug)]
pub enum Place {
    /// A container of Azure Blob Storage.
    Azure(AzurePlace),
    /// A bucket of Google Cloud Storage.
    Gcs(GcsPlace),
}

/// A container of a storage account.
#[derive(Clone, Debug)]
pub struct AzurePlace {
    /// The account's name.
    pub account: String,
    /// The container's name.
    pub container: String,
    /// Who asks.
    pub credentials: AzureCredentials,
}

/// A bucket.
#[derive(Clone, Debug)]
pub struct GcsPlace {
    /// The bucket's name.
    pub bucket: String,
    /// Who asks.
    pub credentials: GcsCredentials,
}

impl CloudOptions {
    /// A place in the public cloud, with usual limits.
    #[must_use]
    pub fn new(place: Place, prefix: impl Into<String>) -> Self {
        Self {
            place,
            prefix: prefix.into(),
            endpoint: None,
            ca_pem: None,
            writable: true,
            limits: Limits::default(),
            retry: RetryPolicy::default(),
        }
    }

    /// How messages call the place: `azure://account/container/prefix`, `gs://bucket/prefix`.
    #[must_use]
    pub fn shown(&self) -> String {
        let bucket = match &self.place {
            Place::Azure(AzurePlace { account, container, .. }) => {
                format!("azure://{account}/{container}")
            }
            Place::Gcs(GcsPlace { bucket, .. }) => format!("gs://{bucket}"),
        };
        if self.prefix.is_empty() { bucket } else { format!("{bucket}/{}", self.prefix) }
    }

    /// Refuses what no server could carry out.
    ///
    /// # Errors
    /// `Misconfigured`, with what is wrong.
    pub fn validate(&self) -> Result<()> {
        let named = match &self.place {
            Place::Azure(place) => validate_azure(place),
            Place::Gcs(place) => validate_gcs(place),
        };
        named.and_then(|()| validate_prefix(&self.prefix)).map_err(|why| self.wrong(why))?;
        match &self.endpoint {
            Some(endpoint) => validate_endpoint(endpoint).map_err(|why| self.wrong(why)),
            None => Ok(()),
        }
    }

    /// `Misconfigured`, in these words.
    pub(crate) fn wrong(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::Misconfigured, Operation::Open, self.shown(), why)
    }
}

/// Whether it has only bytes of this kind.
fn made_of(text: &str, also: &[u8]) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || also.contains(&byte))
}

/// "Naming and referencing containers, blobs, and metadata" of Azure's reference.
fn validate_azure(place: &AzurePlace) -> std::result::Result<(), &'static str> {
    if !(3..=24).contains(&place.account.len()) || !made_of(&place.account, b"") {
        return Err("an account's name has 3 to 24 small letters and digits");
    }
    let container = &place.container;
    if container.is_empty() {
        return Err("it names no container: azure://ACCOUNT/CONTAINER");
    }
    if !(3..=63).contains(&container.len()) || !made_of(container, b"-") {
        return Err("a container's name has 3 to 63 small letters, digits and hyphens");
    }
    Ok(())
}

/// "About Cloud Storage buckets" of Google's reference.
fn validate_gcs(place: &GcsPlace) -> std::result::Result<(), &'static str> {
    match place.bucket.len() {
        3..=222 if made_of(&place.bucket, b"-_.") => Ok(()),
        0 => Err("it names no bucket"),
        _ => Err("a bucket's name has small letters, digits, hyphens, underscores and dots"),
    }
}

fn validate_prefix(prefix: &str) -> std::result::Result<(), &'static str> {
    if prefix.is_empty() {
        return Ok(());
    }
    if prefix.len() > MAX_PREFIX_BYTES {
        return Err("the prefix is longer than 500 bytes");
    }
    if prefix.chars().any(char::is_control) {
        return Err("the prefix holds a control character");
    }
    if prefix.contains('\\') {
        return Err("Azure takes \\ in the prefix for /");
    }
    // Clients tidy them, and Azure drops dots at the end of a part.
    if prefix.split('/').any(|part| part.is_empty() || part.ends_with('.')) {
        return Err("a part of the prefix is empty or ends in a dot");
    }
    Ok(())
}

fn validate_endpoint(endpoint: &str) -> std::result::Result<(), String> {
    let url = Url::parse(endpoint)
        .map_err(|error| format!("the endpoint is no address (https://HOST): {error}"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("the endpoint begins with neither https:// nor http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the endpoint holds keys".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the endpoint has neither ? nor #".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn azure(account: &str, container: &str) -> Place {
        Place::Azure(AzurePlace {
            account: account.to_owned(),
            container: container.to_owned(),
            credentials: AzureCredentials::Ambient,
        })
    }

    fn gcs(bucket: &str) -> Place {
        Place::Gcs(GcsPlace { bucket: bucket.to_owned(), credentials: GcsCredentials::Ambient })
    }

    #[test]
    fn what_no_server_could_carry_out_is_refused_beforehand() {
        let refused = |place, prefix: &str| CloudOptions::new(place, prefix).validate().is_err();
        assert!(!refused(azure("acme", "backups"), "shop/eu"));
        assert!(!refused(gcs("acme_backups.example.com"), ""));
        for place in
            [azure("", "abc"), azure("Acme", "abc"), azure("acme", ""), azure("acme", "a_c")]
        {
            assert!(refused(place.clone(), ""), "{place:?}");
        }
        assert!(refused(gcs(""), "") && refused(gcs("A b"), ""));
        for prefix in ["/x", "x/", "x//y", "../x", "x./y", "x\ny", "x\\y"] {
            assert!(refused(gcs("acme"), prefix), "{prefix}");
        }
        for endpoint in ["example.com", "ftp://x", "https://me:hunter2@x", "https://x?y=1", ""] {
            let endpoint = Some(endpoint.to_owned());
            let options = CloudOptions { endpoint, ..CloudOptions::new(gcs("acme"), "") };
            let error = options.validate().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
