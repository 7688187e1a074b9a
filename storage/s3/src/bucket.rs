//! A bucket: requests, how long they may take, and what their failures are called.

use std::error::Error as StdError;
use std::time::Duration;

use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ServerSideEncryption as Encryption, StorageClass as Class,
};
use aws_sdk_s3::{Client, config};
use bytes::{Bytes, BytesMut};
use dbbackup_contract::ObjectLock;
use dbbackup_storage::{Error, ErrorKind, Operation, Result};
use futures::future::BoxFuture;

use crate::failure::Failed;
use crate::object_lock;
use crate::{Limits, S3Options, ServerSideEncryption};

/// Names of what may be kept in another storage class.
const PACKS: &str = "packs/";

/// With which headers an object is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers {
    /// `If-None-Match: *`.
    pub(crate) condition: bool,
    /// CRC-32C of the object.
    pub(crate) checksum: bool,
}

/// The bucket, as requests see it.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
    /// What every key begins with; it ends with a slash, or is empty.
    pub(crate) prefix: String,
    shown: String,
    storage_class: Option<Class>,
    encryption: Option<ServerSideEncryption>,
    pub(crate) object_lock: Option<ObjectLock>,
    limits: Limits,
}

impl Bucket {
    pub(crate) fn new(client: Client, options: S3Options) -> Self {
        let shown = options.shown();
        let prefix = match options.prefix {
            prefix if prefix.is_empty() => prefix,
            prefix => prefix + "/",
        };
        let storage_class = options.storage_class.map(|class| Class::from(class.name()));
        Self {
            client,
            name: options.bucket,
            prefix,
            shown,
            storage_class,
            encryption: options.encryption,
            object_lock: options.object_lock,
            limits: options.limits,
        }
    }

    /// The key of the object.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Sends a whole object.
    pub(crate) async fn put(
        &self,
        name: &str,
        bytes: Bytes,
        headers: Headers,
    ) -> std::result::Result<(), Failed> {
        let sent = bytes.len();
        let class = self.storage_class.clone().filter(|_| name.starts_with(PACKS));
        let mut request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.key(name))
            .body(ByteStream::from(bytes))
            .set_if_none_match(headers.condition.then(|| "*".to_owned()))
            .set_checksum_algorithm(headers.checksum.then_some(ChecksumAlgorithm::Crc32C))
            .set_storage_class(class);
        if let Some((mode, until)) =
            self.object_lock.and_then(|lock| object_lock::of_new(lock, name))
        {
            request = request.object_lock_mode(mode).object_lock_retain_until_date(until);
        }
        request = match &self.encryption {
            None => request,
            Some(ServerSideEncryption::S3) => request.server_side_encryption(Encryption::Aes256),
            Some(ServerSideEncryption::Kms { key_id }) => {
                request.server_side_encryption(Encryption::AwsKms).set_ssekms_key_id(key_id.clone())
            }
        };
        // Without a checksum of ours the SDK would add one, and with one it sends none
        // unless it may add them.
        let checksums = if headers.checksum {
            RequestChecksumCalculation::WhenSupported
        } else {
            RequestChecksumCalculation::WhenRequired
        };
        let settings = config::Builder::new().request_checksum_calculation(checksums);
        let request = request.customize().config_override(settings);
        self.answer(sent, request.send()).await.map(drop)
    }

    /// A page of what begins with `prefix`.
    pub(crate) fn list(&self, prefix: &str) -> ListObjectsV2FluentBuilder {
        self.client.list_objects_v2().bucket(&self.name).prefix(self.key(prefix))
    }

    /// Makes sure that the bucket is there and may be read.
    pub(crate) async fn look(&self) -> Result<()> {
        let request = self.list("").max_keys(1);
        self.answer(0, request.send()).await.map(drop).map_err(|failed| self.unopened(failed))
    }

    /// Waits for the answer to a request that sends so many bytes.
    pub(crate) async fn answer<T, E>(
        &self,
        sent: usize,
        request: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> std::result::Result<T, Failed>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let sending = sent as u64 / self.limits.slowest_upload.max(1);
        let limit = self.limits.silence + Duration::from_secs(sending);
        // The SDK's futures are large and deeply nested: whoever holds one of ours
        // shall neither be so nor have to be compiled with it.
        let request: BoxFuture<'_, _> = Box::pin(request);
        match tokio::time::timeout(limit, request).await {
            Ok(answered) => answered.map_err(Failed::from),
            Err(_) => Err(Failed::silent(limit)),
        }
    }

    /// The bytes of an answer, at most `most` of them.
    pub(crate) async fn body(
        &self,
        name: &str,
        most: usize,
        mut answer: GetObjectOutput,
    ) -> Result<Bytes> {
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
        failed.with_a_word().of(Operation::Open, &self.shown)
    }

    /// A failure to open the store, in our words.
    pub(crate) fn error(&self, kind: ErrorKind, detail: &str) -> Error {
        Error::new(kind, Operation::Open, &self.shown, detail)
    }
}
