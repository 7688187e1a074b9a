//! What is said of a bucket, and what of it is refused before anything is asked.

use dbbackup_contract::ObjectLock;
use dbbackup_storage::{Error, ErrorKind, Limits, Operation, Result, RetryPolicy};
use url::Url;

use crate::Credentials;

/// S3's limit for keys is 1024 bytes; a name of ours has 512 at most.
const MAX_PREFIX_BYTES: usize = 500;

/// Where the bucket is and how it is reached.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket's name. It is never created.
    pub bucket: String,
    /// What all keys begin with, without slashes around it; empty: nothing.
    pub prefix: String,
    /// The bucket's region. Where absent: what the environment says, then
    /// `us-east-1` if there is an endpoint.
    pub region: Option<String>,
    /// `https://` address of a server that is not AWS.
    pub endpoint: Option<String>,
    /// The bucket is the first part of the path, not of the host's name.
    pub force_path_style: bool,
    /// The only authorities (PEM) that may sign the server's certificate; the
    /// system's where absent.
    pub ca_pem: Option<Vec<u8>>,
    /// How packs are kept; all else is small or read often, and is kept as usual.
    pub storage_class: Option<StorageClass>,
    /// How the server encrypts, beside what it does by itself.
    pub encryption: Option<ServerSideEncryption>,
    /// How what a snapshot cannot be restored without is locked; `None`: not at all.
    pub object_lock: Option<ObjectLock>,
    /// Who asks.
    pub credentials: Credentials,
    /// Whether anything may be written. A store that may not is not probed either.
    pub writable: bool,
    /// How long an answer may take.
    pub limits: Limits,
    /// How the driver repeats what a `RetryingStore` cannot: opening, the pages of
    /// a listing, and writes that met another one.
    pub retry: RetryPolicy,
}

impl S3Options {
    /// A bucket of AWS in the environment's region, with the environment's credentials.
    #[must_use]
    pub fn new(bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: prefix.into(),
            region: None,
            endpoint: None,
            force_path_style: false,
            ca_pem: None,
            storage_class: None,
            encryption: None,
            object_lock: None,
            credentials: Credentials::Ambient,
            writable: true,
            limits: Limits::default(),
            retry: RetryPolicy::default(),
        }
    }

    /// How messages call the place: `s3://bucket/prefix`.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.prefix.is_empty() {
            format!("s3://{}", self.bucket)
        } else {
            format!("s3://{}/{}", self.bucket, self.prefix)
        }
    }

    /// Refuses what no server could carry out.
    ///
    /// # Errors
    /// `Misconfigured`, with what is wrong.
    pub fn validate(&self) -> Result<()> {
        self.validate_bucket()
            .and_then(|()| self.validate_prefix())
            .map_err(|why| self.wrong(why))?;
        if let Some(endpoint) = &self.endpoint {
            validate_endpoint(endpoint).map_err(|why| self.wrong(why))?;
        }
        let days = 1..=ObjectLock::MOST_DAYS;
        if self.object_lock.is_some_and(|lock| !days.contains(&lock.days)) {
            return Err(self.wrong("a lock lasts 1 to 36,500 days"));
        }
        if self.region.as_ref().is_some_and(|region| !is_a_region(region)) {
            return Err(self.wrong("the region is a word like eu-central-1"));
        }
        Ok(())
    }

    /// `Misconfigured`, in these words.
    pub(crate) fn wrong(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::Misconfigured, Operation::Open, self.shown(), why)
    }

    fn validate_bucket(&self) -> std::result::Result<(), &'static str> {
        // Wider than S3's own rule: old buckets and other servers have capitals and `_`.
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        match self.bucket.len() {
            3..=63 if self.bucket.bytes().all(named) => Ok(()),
            0 => Err("it names no bucket"),
            _ => Err("a bucket's name has 3 to 63 letters, digits, dots and hyphens"),
        }
    }

    fn validate_prefix(&self) -> std::result::Result<(), &'static str> {
        if self.prefix.is_empty() {
            return Ok(());
        }
        if self.prefix.len() > MAX_PREFIX_BYTES {
            return Err("the prefix is longer than 500 bytes");
        }
        if self.prefix.chars().any(char::is_control) {
            return Err("the prefix holds a control character");
        }
        // Some servers keep keys as paths, and some clients tidy them.
        if self.prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("a part of the prefix is empty, `.` or `..`");
        }
        Ok(())
    }
}

fn validate_endpoint(endpoint: &str) -> std::result::Result<(), String> {
    let url = Url::parse(endpoint)
        .map_err(|error| format!("the endpoint is no address (https://HOST): {error}"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("the endpoint begins with neither https:// nor http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the endpoint holds a user; credentials are said elsewhere".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the endpoint holds options behind ? or #".to_owned());
    }
    Ok(())
}

fn is_a_region(region: &str) -> bool {
    // It becomes a part of a host's name.
    (1..=63).contains(&region.len())
        && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// How an object is kept. Only classes that give it back at once: a restore that
/// first has to order its data from an archive is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageClass {
    /// The usual one.
    Standard,
    /// Cheaper to keep, dearer to read; at least 30 days and 128 KiB are paid for.
    StandardIa,
    /// The same in one zone only.
    OnezoneIa,
    /// Moved by how often it is read.
    IntelligentTiering,
    /// Cheap to keep, dear to read, yet read at once; at least 90 days are paid for.
    GlacierIr,
    /// Of servers that still have it.
    ReducedRedundancy,
}

impl StorageClass {
    /// The name that S3 gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::StandardIa => "STANDARD_IA",
            Self::OnezoneIa => "ONEZONE_IA",
            Self::IntelligentTiering => "INTELLIGENT_TIERING",
            Self::GlacierIr => "GLACIER_IR",
            Self::ReducedRedundancy => "REDUCED_REDUNDANCY",
        }
    }
}

impl std::str::FromStr for StorageClass {
    type Err = String;

    /// Takes S3's own names.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let all = [
            Self::Standard,
            Self::StandardIa,
            Self::OnezoneIa,
            Self::IntelligentTiering,
            Self::GlacierIr,
            Self::ReducedRedundancy,
        ];
        if let Some(class) = all.into_iter().find(|class| class.name() == text) {
            return Ok(class);
        }
        let why = match text {
            "GLACIER" | "DEEP_ARCHIVE" => "objects of this class cannot be read at once",
            _ => "no such class with instant access is known",
        };
        let names = all.map(Self::name).join(", ");
        Err(format!("storage class {text}: {why}; there are {names}"))
    }
}

/// How the server encrypts what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerSideEncryption {
    /// By keys of S3 itself (`AES256`).
    S3,
    /// By a key of KMS; the account's own for S3 where none is named.
    Kms {
        /// Id, ARN or alias of the key.
        key_id: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(options: &S3Options) -> Option<String> {
        options.validate().err().map(|error| {
            assert_eq!(error.kind, ErrorKind::Misconfigured);
            error.detail
        })
    }

    #[test]
    fn what_no_server_could_carry_out_is_refused_beforehand() {
        assert_eq!(why(&S3Options::new("acme-backups", "shop/eu")), None);
        assert_eq!(why(&S3Options::new("acme-backups", "")), None);
        for (bucket, prefix) in [
            ("", "x"),
            ("ab", "x"),
            ("a/b", "x"),
            ("a b c", ""),
            ("abc", "/x"),
            ("abc", "x/"),
            ("abc", "x//y"),
            ("abc", "../x"),
            ("abc", "x\ny"),
        ] {
            assert!(why(&S3Options::new(bucket, prefix)).is_some(), "{bucket:?} {prefix:?}");
        }
        for endpoint in ["s3.example.com", "ftp://x", "https://me:hunter2@x", "https://x?y=1", ""] {
            let endpoint = Some(endpoint.to_owned());
            let why = why(&S3Options { endpoint, ..S3Options::new("abc", "") }).unwrap();
            assert!(!why.contains("hunter2"), "{why}");
        }
        let region = Some("eu central".to_owned());
        assert!(why(&S3Options { region, ..S3Options::new("abc", "") }).is_some());
    }

    #[test]
    fn a_storage_class_that_has_to_be_ordered_first_is_refused() {
        assert_eq!("GLACIER_IR".parse(), Ok(StorageClass::GlacierIr));
        let refused = |name: &str| name.parse::<StorageClass>().unwrap_err();
        assert!(refused("GLACIER").contains("cannot be read at once"));
        assert!(refused("DEEP_ARCHIVE").contains("cannot be read at once"));
        assert!(refused("standard").contains("STANDARD_IA"));
    }
}
