//! The replication protocol: base backups and the log of a server, without anything in its pod
//! (<https://www.postgresql.org/docs/current/protocol-replication.html>).

mod base_backup;
mod connect;
mod session;
mod slot;
mod wal_stream;
mod wire;

pub(crate) use self::base_backup::{BaseBackup, BaseBackupOptions, BaseBackupPart};
pub(crate) use self::session::{ReplicationSession, SystemIdentity};
pub(crate) use self::wal_stream::{REPORT_EVERY, Received, WalMessage, WalStream};
