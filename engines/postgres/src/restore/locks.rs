//! The advisory locks of restores: who may touch which database.
//!
//! A restore holds two for each of its databases: one on the target's name, so
//! that no two requests restore to one name, and one on the scratch database's
//! name, so that anybody who sees a scratch database can find out whether
//! somebody works with it. Both live as long as the session that takes them.

use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::connection::Session;
use crate::errors::query_failure;

/// How often a lock that somebody else holds is tried again.
const TRY_INTERVAL: Duration = Duration::from_millis(250);

/// One lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RestoreLock(i64);

impl RestoreLock {
    /// Of a name that a restore gives to a database.
    pub(super) fn of_target(name: &str) -> Self {
        Self::of("restore", name)
    }

    /// Of a scratch database's name.
    pub(super) fn of_scratch(name: &str) -> Self {
        Self::of("scratch", name)
    }

    fn of(kind: &str, name: &str) -> Self {
        let digest =
            Sha256::new().chain_update(format!("dbbackup {kind}\0")).chain_update(name).finalize();
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        Self(i64::from_le_bytes(key))
    }

    /// Takes it, if nobody on the whole server holds it.
    pub(super) async fn try_take(self, session: &Session) -> Result<bool, Failure> {
        let failed = |error: tokio_postgres::Error| query_failure(&error, "taking a lock");
        let taken = "SELECT pg_try_advisory_lock($1)";
        let row = session.query_one(taken, &[&self.0]).await.map_err(failed)?;
        if !row.get::<_, bool>(0) {
            return Ok(false);
        }
        // An advisory lock is one of the database that its session is connected
        // to, and that is not the same for everybody: `postgres` may have been
        // missing when another restore began. First ours, then a look at the
        // others: of two that do so at the same time one at least sees the other.
        let elsewhere = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' \
             AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = $1 AND granted \
             AND database <> (SELECT oid FROM pg_database WHERE datname = current_database()))";
        let row = session.query_one(elsewhere, &[&self.0]).await.map_err(failed)?;
        if row.get(0) {
            self.give_back(session).await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes it, and waits for it up to `until`; whether it was got.
    pub(super) async fn take(self, session: &Session, until: Instant) -> Result<bool, Failure> {
        loop {
            if self.try_take(session).await? {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(TRY_INTERVAL).await;
        }
    }

    /// Gives it back before the session ends.
    pub(super) async fn give_back(self, session: &Session) -> Result<(), Failure> {
        let sql = format!("SELECT pg_advisory_unlock({})", self.0);
        session.run(&sql, "giving a lock back").await
    }
}

/// Takes both locks of one database of a restore.
///
/// # Errors
/// `RestoreInProgress` where somebody else holds one longer than `until`.
pub(super) async fn lock_both(
    session: &Session,
    target: &str,
    scratch: &str,
    until: Instant,
) -> Result<(), Failure> {
    let held = |message| Err(Failure::new(Reason::RestoreInProgress, message));
    if !RestoreLock::of_target(target).take(session, until).await? {
        return held(format!("another restore to database {target} is under way"));
    }
    if !RestoreLock::of_scratch(scratch).take(session, until).await? {
        return held(format!(
            "another restore is about to drop database {scratch}, which an earlier attempt left"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds_have_locks_of_their_own() {
        let one = RestoreLock::of_target("shop");
        assert_eq!(one, RestoreLock::of_target("shop"));
        assert_ne!(one, RestoreLock::of_target("crm"));
        assert_ne!(one, RestoreLock::of_scratch("shop"));
    }
}
