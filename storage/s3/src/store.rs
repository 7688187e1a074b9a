//! The store: each promise of the contract as a request.

use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use dbbackup_storage::{
    AskedRange, Capabilities, Checksums, CreateIfAbsent, Creation, Error, ErrorKind, Listing,
    MAX_OBJECT_BYTES, ObjectInfo, Operation, Repeater, Result, Store, validate_name,
    validate_prefix, validate_size,
};
use futures::StreamExt as _;
use futures::future::BoxFuture;

use crate::bucket::{Bucket, Headers};
use crate::{S3Options, client, listing, object_lock, probe};

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
        // What is inside is deep; it stays out of the types of whoever opens a store.
        let opening: BoxFuture<'_, Result<Self>> = Box::pin(Self::try_open(options));
        opening.await
    }

    async fn try_open(options: S3Options) -> Result<Self> {
        options.validate()?;
        let client = client::build(&options).await?;
        let writable = options.writable;
        let repeater = Repeater::scattered(options.retry);
        let bucket = Bucket::new(client, options);
        let capabilities = if writable {
            let mut found = repeater.repeat(|_| probe::probe(&bucket)).await?;
            if let Some(lock) = bucket.object_lock {
                repeater.repeat(|_| object_lock::look(&bucket)).await?;
                found.lock = Some(object_lock::duration(lock));
            }
            found
        } else {
            repeater.repeat(|_| bucket.look()).await?;
            Capabilities::default()
        };
        tracing::debug!(?capabilities, "the bucket is open");
        Ok(Self { bucket, repeater, writable, capabilities })
    }

    fn may_write(&self, operation: Operation, name: &str) -> Result<()> {
        if self.writable { Ok(()) } else { Err(Error::read_only(operation, name)) }
    }

    /// Whether the driver has to look before it creates.
    fn looks_first(&self) -> bool {
        self.capabilities.create_if_absent != CreateIfAbsent::Obeyed
    }

    /// Creates an object by one request. A write that met another one of the same
    /// object had no effect and is repeated: the other one may have failed.
    async fn put(&self, name: &str, bytes: &Bytes) -> Result<Creation> {
        let headers = Headers {
            condition: self.capabilities.create_if_absent != CreateIfAbsent::Refused,
            checksum: self.capabilities.checksums == Checksums::Taken,
        };
        let failure = |failed| self.bucket.failure(failed, Operation::Create, name);
        let tried = self.repeater.repeat(|_| async {
            match self.bucket.put(name, bytes.clone(), headers).await {
                Ok(()) => Ok(Ok(Creation::Created)),
                Err(failed) if failed.is_exists() => Ok(Ok(Creation::Exists)),
                Err(failed) if failed.is_conflict() => Err(failure(failed)),
                Err(failed) => Ok(Err(failure(failed))),
            }
        });
        tried.await?
    }
}

#[async_trait]
impl Store for S3Store {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        validate_name(Operation::Create, name)?;
        validate_size(name, &bytes)?;
        self.may_write(Operation::Create, name)?;
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
        let asked = AskedRange::new(name, range)?;
        if asked.length() == 0 {
            return asked.nothing_of(self.head(name).await?.size);
        }
        let bucket = &self.bucket;
        let request = bucket
            .client
            .get_object()
            .bucket(&bucket.name)
            .key(bucket.key(name))
            .range(asked.header());
        let answered = bucket.answer(0, request.send()).await;
        let answer = answered.map_err(|failed| bucket.failure(failed, Operation::Read, name))?;
        let given = answer.content_range().unwrap_or_default().to_owned();
        asked.begins(&given)?;
        let bytes = bucket.body(name, asked.length(), answer).await?;
        asked.whole(&given, bytes)
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
        self.may_write(Operation::Delete, name)?;
        let bucket = &self.bucket;
        let request = bucket.client.delete_object().bucket(&bucket.name).key(bucket.key(name));
        match bucket.answer(0, request.send()).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.kind == ErrorKind::NotFound => Ok(()),
            Err(failed) => Err(bucket.failure(failed, Operation::Delete, name)),
        }
    }

    async fn keep(&self, name: &str) -> Result<bool> {
        validate_name(Operation::Keep, name)?;
        self.may_write(Operation::Keep, name)?;
        match self.bucket.object_lock {
            Some(lock) => object_lock::keep(&self.bucket, lock, name).await,
            None => Ok(false),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}
