//! What a server does with conditions and checksums, tried out on one object.

use bytes::Bytes;
use dbbackup_storage::{Capabilities, Checksums, CreateIfAbsent, ErrorKind, Result};

use crate::bucket::{Bucket, Headers};
use crate::failure::Failed;

/// The object that is tried. It stays: who may create may not delete, and where it
/// is already there, one request tells all. No object of ours can have this name,
/// since it has a dot.
pub(crate) const PROBE: &str = ".dbbackup-probe";
const CONTENT: &[u8] = b"dbbackup tries here whether this server replaces what exists\n";

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
                return Ok(Capabilities { create_if_absent, checksums, lock: None, network: true });
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
    bucket.put(PROBE, Bytes::from_static(CONTENT), headers).await
}
