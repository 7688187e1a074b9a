//! The store: each promise of the contract as a request.

use std::error::Error as StdError;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ServerSideEncryption as Encryption, StorageClass as Class,
};
use bytes::{Bytes, BytesMut};
use dbbackup_storage::{
    Capabilities, Checksums, CreateIfAbsent, Creation, Error, ErrorKind, Listing, MAX_OBJECT_BYTES,
    ObjectInfo, Operation, Repeater, Result, Store, validate_name, validate_prefix, validate_size,
};
use futures::StreamExt as _;

use crate::failure::Failed;
use crate::{Limits, S3Options, ServerSideEncryption, client, listing, probe};

/// Names of what may be kept in another storage class.
const PACKS: &str = "packs/";

/// A store in a bucket.
#[derive(Debug)]
pub struct S3Store {
    bucket: Bucket,
    repeater: Repeater,
    writable: bool,
    capabilities: Capabilities,
}

impl S3Store {
    /// Opens a bucket, which has to exist, and finds out what its server can do.
    /// For reading only, the listing is tried instead.
    ///
    /// # Errors
    /// `Misconfigured` where the options are wrong; `PermissionDenied`;
    /// `Unavailable`; `Unsuitable`.
    pub async fn open(options: S3Options) -> Result<Self> {
        options.validate()?;
        let client = client::build(&options).await?;
        let writable = options.writable;
        let repeater = Repeater::new(options.retry, seed());
        let bucket = Bucket::new(client, options);
        let capabilities = if writable {
            repeater.repeat(|_| probe::probe(&bucket)).await?
        } else {
            repeater.repeat(|_| bucket.look()).await?;
            Capabilities::default()
        };
        tracing::debug!(?capabilities, "the bucket is open");
        Ok(Self { bucket, repeater, writable, capabilities })
    }

    /// Whether the driver has to look before it creates.
    fn looks_first(&self) -> bool {
        self.capabilities.create_if_absent != CreateIfAbsent::Obeyed
    }

    /// Creates an object by one request. A write that met another one of the same
    /// object had no effect and is repeated: the other one may have failed.
    async fn put(&self, name: &str, bytes: &Bytes) -> Result<Creation> {
        let refused = self.capabilities.create_if_absent == CreateIfAbsent::Refused;
        let checksum = self.capabilities.checksums == Checksums::Taken;
        let tried = self.repeater.repeat(|_| async {
            let request = self
                .bucket
                .put(name)
                .body(ByteStream::from(bytes.clone()))
                .set_if_none_match((!refused).then(|| "*".to_owned()))
                .set_checksum_algorithm(checksum.then_some(ChecksumAlgorithm::Crc32C));
            match self.bucket.answer(bytes.len(), request.send()).await {
                Ok(_) => Ok(Ok(Creation::Created)),
                Err(failed) if failed.is_exists() => Ok(Ok(Creation::Exists)),
                Err(failed) if failed.is_conflict() => {
                    Err(self.bucket.failure(failed, Operation::Create, name))
                }
                Err(failed) => Ok(Err(self.bucket.failure(failed, Operation::Create, name))),
            }
        });
        tried.await?
    }
}

/// Where delays begin to scatter.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs().rotate_left(32) ^ u64::from(now.subsec_nanos()) ^ u64::from(std::process::id())
}

/// The bucket, as requests see it.
#[derive(Debug)]
pub(crate) struct Bucket {
    client: Client,
    name: String,
    /// What every key begins with; it ends with a slash, or is empty.
    pub(crate) prefix: String,
    shown: String,
    storage_class: Option<Class>,
    encryption: Option<ServerSideEncryption>,
    limits: Limits,
}

impl Bucket {
    fn new(client: Client, options: S3Options) -> Self {
        let shown = options.shown();
        let prefix = match options.prefix {
            prefix if prefix.is_empty() => prefix,
            prefix => prefix + "/",
        };
        let storage_class = options.storage_class.map(|class| Class::from(class.name()));
        let (encryption, limits) = (options.encryption, options.limits);
        Self { client, name: options.bucket, prefix, shown, storage_class, encryption, limits }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A PUT of this object, without its body.
    pub(crate) fn put(&self, name: &str) -> PutObjectFluentBuilder {
        let class = self.storage_class.clone().filter(|_| name.starts_with(PACKS));
        let request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.key(name))
            .set_storage_class(class);
        match &self.encryption {
            None => request,
            Some(ServerSideEncryption::S3) => request.server_side_encryption(Encryption::Aes256),
            Some(ServerSideEncryption::Kms { key_id }) => {
                request.server_side_encryption(Encryption::AwsKms).set_ssekms_key_id(key_id.clone())
            }
        }
    }

    /// A page of what begins with `prefix`.
    pub(crate) fn list(&self, prefix: &str) -> ListObjectsV2FluentBuilder {
        self.client.list_objects_v2().bucket(&self.name).prefix(self.key(prefix))
    }

    /// Makes sure that the bucket is there and may be read.
    async fn look(&self) -> Result<()> {
        let request = self.list("").max_keys(1);
        self.answer(0, request.send()).await.map(drop).map_err(|failed| self.unopened(failed))
    }

    /// Waits for the answer to a request that sends so many bytes.
    pub(crate) async fn answer<T, E>(
        &self,
        sent: usize,
        request: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    ) -> std::result::Result<T, Failed>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let sending = sent as u64 / self.limits.slowest_upload.max(1);
        let limit = self.limits.silence + Duration::from_secs(sending);
        match tokio::time::timeout(limit, request).await {
            Ok(answered) => answered.map_err(Failed::from),
            Err(_) => Err(Failed::silent(limit)),
        }
    }

    /// The bytes of an answer, at most `most` of them.
    async fn body(&self, name: &str, most: usize, mut answer: GetObjectOutput) -> Result<Bytes> {
        let said = answer.content_length().and_then(|length| usize::try_from(length).ok());
        let too_large = |length: usize| {
            let detail = format!("{length} bytes are more than any object has");
            Error::new(ErrorKind::Truncated, Operation::Read, name, detail)
        };
        if let Some(length) = said.filter(|length| *length > most) {
            return Err(too_large(length));
        }
        let broken = |failed: Failed| self.failure(failed, Operation::Read, name);
        let mut bytes = BytesMut::with_capacity(said.unwrap_or(0));
        loop {
            match tokio::time::timeout(self.limits.silence, answer.body.try_next()).await {
                Ok(Ok(Some(part))) if bytes.len() + part.len() > most => {
                    return Err(too_large(bytes.len() + part.len()));
                }
                Ok(Ok(Some(part))) => bytes.extend_from_slice(&part),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(broken(Failed::broken(&error))),
                Err(_) => return Err(broken(Failed::silent(self.limits.silence))),
            }
        }
        if said.is_some_and(|length| length != bytes.len()) {
            let detail = format!("the answer broke off after {} bytes", bytes.len());
            return Err(Error::new(ErrorKind::Unavailable, Operation::Read, name, detail));
        }
        Ok(bytes.freeze())
    }

    /// A failure of this operation, which names the bucket where it is about that.
    pub(crate) fn failure(&self, failed: Failed, operation: Operation, name: &str) -> Error {
        let name = if name.is_empty() { "the objects" } else { name };
        match failed.kind {
            ErrorKind::Misconfigured | ErrorKind::PermissionDenied => {
                failed.of(operation, format!("{name} in {}", self.shown))
            }
            _ => failed.of(operation, name),
        }
    }

    /// A failure to open the store.
    pub(crate) fn unopened(&self, failed: Failed) -> Error {
        let mut error = failed.of(Operation::Open, &self.shown);
        // Not an object's: what answers there knows no buckets.
        if error.kind == ErrorKind::NotFound {
            error.kind = ErrorKind::Misconfigured;
        }
        error
    }

    /// A failure to open the store, in our words.
    pub(crate) fn error(&self, kind: ErrorKind, detail: &str) -> Error {
        Error::new(kind, Operation::Open, &self.shown, detail)
    }
}

#[async_trait]
impl Store for S3Store {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        validate_name(Operation::Create, name)?;
        validate_size(name, &bytes)?;
        if !self.writable {
            let detail = "the bucket was opened for reading only";
            let kind = ErrorKind::PermissionDenied;
            return Err(Error::new(kind, Operation::Create, name, detail));
        }
        if self.looks_first() {
            match self.head(name).await {
                Ok(_) => return Ok(Creation::Exists),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.put(name, &bytes).await.map_err(|mut error| {
            // Only what is read can be missing; here it is what holds the objects.
            if error.kind == ErrorKind::NotFound {
                error.kind = ErrorKind::Misconfigured;
            }
            error
        })
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        validate_name(Operation::Read, name)?;
        let bucket = &self.bucket;
        let request = bucket
            .client
            .get_object()
            .bucket(&bucket.name)
            .key(bucket.key(name))
            .checksum_mode(ChecksumMode::Enabled);
        let answered = bucket.answer(0, request.send()).await;
        let answer = answered.map_err(|failed| bucket.failure(failed, Operation::Read, name))?;
        bucket.body(name, MAX_OBJECT_BYTES, answer).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        validate_name(Operation::Read, name)?;
        let short =
            |detail: String| Error::new(ErrorKind::Truncated, Operation::Read, name, detail);
        let length = range.end.checked_sub(range.start).and_then(|length| length.try_into().ok());
        let Some(length) = length.filter(|length: &usize| *length <= MAX_OBJECT_BYTES) else {
            return Err(short(format!("no object has bytes {} to {}", range.start, range.end)));
        };
        if length == 0 {
            // HTTP has no empty ranges; the object may be missing or shorter all the same.
            let size = self.head(name).await?.size;
            return if range.end <= size {
                Ok(Bytes::new())
            } else {
                Err(short(format!("{size} bytes end before byte {}", range.end)))
            };
        }
        let bucket = &self.bucket;
        let request = bucket
            .client
            .get_object()
            .bucket(&bucket.name)
            .key(bucket.key(name))
            .range(format!("bytes={}-{}", range.start, range.end - 1));
        let answered = bucket.answer(0, request.send()).await;
        let answer = answered.map_err(|failed| bucket.failure(failed, Operation::Read, name))?;
        let given = answer.content_range().unwrap_or_default().to_owned();
        if !given.starts_with(&format!("bytes {}-", range.start)) {
            let detail = format!("bytes {range:?} were asked for, {given:?} came");
            return Err(Error::new(ErrorKind::Unsuitable, Operation::Read, name, detail));
        }
        let bytes = bucket.body(name, length, answer).await?;
        if bytes.len() < length {
            return Err(short(format!("it ends before byte {}: {given}", range.end)));
        }
        Ok(bytes)
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        validate_name(Operation::Head, name)?;
        let bucket = &self.bucket;
        let request = bucket.client.head_object().bucket(&bucket.name).key(bucket.key(name));
        let answered = bucket.answer(0, request.send()).await;
        let answer = answered.map_err(|failed| bucket.failure(failed, Operation::Head, name))?;
        let Some(size) = answer.content_length().and_then(|size| u64::try_from(size).ok()) else {
            let detail = "the server does not say its size";
            return Err(Error::new(ErrorKind::Unsuitable, Operation::Head, name, detail));
        };
        let modified = answer.last_modified().and_then(|at| SystemTime::try_from(*at).ok());
        let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(ObjectInfo { name: name.to_owned(), size, modified })
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        match validate_prefix(prefix) {
            Ok(()) => listing::list(&self.bucket, &self.repeater, prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        validate_name(Operation::Delete, name)?;
        let bucket = &self.bucket;
        let request = bucket.client.delete_object().bucket(&bucket.name).key(bucket.key(name));
        match bucket.answer(0, request.send()).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.kind == ErrorKind::NotFound => Ok(()),
            Err(failed) => Err(bucket.failure(failed, Operation::Delete, name)),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}
