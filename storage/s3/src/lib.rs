//! Objects in a bucket of S3, or of a server that speaks its protocol, as a store.
//!
//! An object is one `PutObject` of at most 32 MiB, so there is nothing of several
//! parts to abort or to clean up. Objects never replace each other: every PUT says
//! `If-None-Match: *`, and whether the server obeys is tried out when the store is
//! opened for writing ([`dbbackup_storage::Capabilities`]).
//!
//! The SDK's own retries are off: `dbbackup-storage` repeats, and knows what a lost
//! acknowledgement means. What is decided and why: `docs/adr/0033-s3-driver.md`.

mod bucket;
mod client;
mod credentials;
mod failure;
mod listing;
mod object_lock;
mod options;
mod probe;
mod store;

pub use credentials::{Credentials, KeyFiles};
pub use dbbackup_storage::Limits;
pub use options::{S3Options, ServerSideEncryption, StorageClass};
pub use store::S3Store;
