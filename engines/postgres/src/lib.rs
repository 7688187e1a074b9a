//! Backup and restore of PostgreSQL servers.
//!
//! [`backup()`] reads databases of a server into named streams, [`preflight()`] looks whether it
//! could; [`restore()`] makes new databases from such streams, and [`settle`] ends it once its
//! outcome is known to whoever asked. [`execute()`] carries out SQL of somebody else.
//! `docs/postgresql.md` says what streams there are.

mod archive;
mod backup;
mod client_files;
mod clients;
mod connection;
mod credentials;
mod database;
mod errors;
mod execute;
mod globals;
mod options;
mod progress;
mod restore;
mod selection;
mod server;
mod sql;
mod tls;
mod versions;
mod watch;

pub use archive::database_of_stream;
pub use backup::{backup, preflight};
pub use clients::ClientFolders;
pub use execute::{execute, open_database};
pub use options::{
    BackupOptions, BackupResult, LeftBehind, Leftover, Permission, Permitted, PlacedDatabase,
    PreflightResult, Replace, RestoreOptions, RestoreResult, ServerConnection, Strategy,
};
pub use restore::{holds_databases, placed, restore, settle};
