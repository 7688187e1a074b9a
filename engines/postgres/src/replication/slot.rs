//! Replication slots: what a server keeps its log for.

use dbbackup_contract::Failure;

use super::session::ReplicationSession;
use crate::sql::ident;

impl ReplicationSession {
    /// Makes a slot that keeps the log from the last checkpoint's redo position on.
    ///
    /// # Errors
    /// What the server says: that there is one of this name, or as many as it may have.
    pub(crate) async fn create_slot(&mut self, name: &str) -> Result<(), Failure> {
        self.create(name, "").await
    }

    /// The same, until this connection ends.
    ///
    /// # Errors
    /// As of [`ReplicationSession::create_slot`].
    pub(crate) async fn create_temporary_slot(&mut self, name: &str) -> Result<(), Failure> {
        self.create(name, "TEMPORARY ").await
    }

    /// Drops a slot that nobody uses.
    ///
    /// # Errors
    /// What the server says: that it is used, or not there.
    pub(crate) async fn drop_slot(&mut self, name: &str) -> Result<(), Failure> {
        let command = format!("DROP_REPLICATION_SLOT {}", ident(name));
        self.rows(&command, "dropping the replication slot").await.map(drop)
    }

    async fn create(&mut self, name: &str, how: &str) -> Result<(), Failure> {
        // The parentheses came with 15; the words without them are taken by all.
        let command = format!("CREATE_REPLICATION_SLOT {} {how}PHYSICAL RESERVE_WAL", ident(name));
        self.rows(&command, "making a replication slot").await.map(drop)
    }
}
