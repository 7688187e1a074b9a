//! What a server does with conditions and checksums, tried out on one object.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use dbbackup_storage::{Capabilities, Checksums, CreateIfAbsent, ErrorKind, Result};

use crate::failure::Failed;
use crate::store::Bucket;

/// The object that is tried. It stays: who may create may not delete, and where it
/// is already there, one request tells all. No object of ours can have this name,
/// since it has a dot.
pub(crate) const PROBE: &str = ".dbbackup-probe";
const CONTENT: &[u8] = b"dbbackup tries here whether this server replaces what exists\n";

/// With which headers an object is sent.
#[derive(Clone, Copy)]
struct Headers {
    condition: bool,
    checksum: bool,
}

/// The most that is asked for first.
const TRIES: [Headers; 4] = [
    Headers { condition: true, checksum: true },
    Headers { condition: true, checksum: false },
    Headers { condition: false, checksum: true },
    Headers { condition: false, checksum: false },
];

/// Finds out what the server can do.
///
/// # Errors
/// What keeps us from writing at all.
pub(crate) async fn probe(bucket: &Bucket) -> Result<Capabilities> {
    let mut refused = None;
    for headers in TRIES {
        let found = match put(bucket, headers).await {
            Ok(()) if headers.condition => again(bucket, headers).await,
            Ok(()) => Ok(CreateIfAbsent::Refused),
            Err(failed) if failed.is_exists() => Ok(CreateIfAbsent::Obeyed),
            Err(failed) => Err(failed),
        };
        match found {
            Ok(create_if_absent) => {
                let checksums =
                    if headers.checksum { Checksums::Taken } else { Checksums::Refused };
                return Ok(Capabilities { create_if_absent, checksums });
            }
            Err(failed) if failed.is_refused_header() => refused = Some(failed),
            Err(failed) => return Err(bucket.unopened(failed)),
        }
    }
    let refused = refused.map(|failed| bucket.unopened(failed));
    Err(refused.unwrap_or_else(|| bucket.error(ErrorKind::Unsuitable, "nothing could be written")))
}

/// Creates what was just created.
async fn again(bucket: &Bucket, headers: Headers) -> std::result::Result<CreateIfAbsent, Failed> {
    match put(bucket, headers).await {
        Ok(()) => Ok(CreateIfAbsent::Ignored),
        Err(failed) if failed.is_exists() => Ok(CreateIfAbsent::Obeyed),
        Err(failed) => Err(failed),
    }
}

async fn put(bucket: &Bucket, headers: Headers) -> std::result::Result<(), Failed> {
    let request = bucket
        .put(PROBE)
        .body(ByteStream::from_static(CONTENT))
        .set_if_none_match(headers.condition.then(|| "*".to_owned()))
        .set_checksum_algorithm(headers.checksum.then_some(ChecksumAlgorithm::Crc32C));
    bucket.answer(CONTENT.len(), request.send()).await.map(drop)
}
