//! Objects in a container of Azure Blob Storage, or in a bucket of Google Cloud
//! Storage, as a store.
//!
//! An object is one PUT of at most 32 MiB. Objects never replace each other: every
//! create says that it is one (`If-None-Match: *`, `ifGenerationMatch=0`), and that
//! the service obeys is tried out when the store is opened.
//!
//! The requests are ours; tokens, signatures and the services that give credentials
//! are those of `object_store`. `dbbackup-storage` repeats, nobody else. What is
//! decided and why: `docs/adr/0041-azure-and-gcs-drivers.md`.

mod azure;
mod client;
mod credentials;
mod failure;
mod gcs;
mod options;
mod service;
mod store;

pub use credentials::{AzureCredentials, AzureKeyFiles, GcsCredentials};
pub use options::{AzurePlace, CloudOptions, GcsPlace, Place};
pub use store::CloudStore;
