//! The report channel: runners push progress and reports over TLS; any replica
//! takes them and writes them into the status, the leader derives the rest.

mod archiver;
pub mod authorize;
mod certificate;
mod message;
mod seats;
mod server;

pub use certificate::{CertificateError, Certificates, Material, is_due, issue};
pub use message::store;
pub use server::{Channel, serve};
