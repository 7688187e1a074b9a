//! Dropping the slot of an archive that is not kept any more: as long as it is there the server keeps
//! its log for it.

use std::time::Duration;

use dbbackup_contract::{ErrorClass, Failure, Reason};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::slot;
use crate::ServerConnection;
use crate::connection::{APPLICATION_NAME, Session};
use crate::errors::query_failure;
use crate::server::open_session;

/// How long an archiver that is told to stop has for that, before its connection is ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the slot may be in use altogether.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);
const DOING: &str = "dropping the replication slot";

/// Drops a physical slot; whether there was one. A connection of an archiver that uses it is
/// waited for, and ended where it does not end by itself.
///
/// # Errors
/// `InvalidSpec` of a slot that is no physical one: it stays. `StatementFailed`, to be tried again, with
/// who it is, where somebody uses it for half a minute. What the server says.
pub async fn drop_slot(server: &ServerConnection, series_slot: &str) -> Result<bool, Failure> {
    let session = open_session(server).await?;
    let began = Instant::now();
    let mut was_ended = false;
    while slot::look(&session, series_slot).await?.is_some() {
        if let Some(dropped) = try_to_drop(&session, series_slot).await? {
            return Ok(dropped);
        }
        let user = SlotUser::of(&session, series_slot).await?;
        if began.elapsed() > LIMIT {
            return Err(in_use(series_slot, user.as_ref()));
        }
        if began.elapsed() > PATIENCE
            && !was_ended
            && let Some(user) = user.filter(SlotUser::is_ours)
        {
            was_ended = true;
            user.end(&session, series_slot).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(false)
}

/// `None` where the slot is in use; else whether it was there.
async fn try_to_drop(session: &Session, name: &str) -> Result<Option<bool>, Failure> {
    // The server's function drops logical slots, too.
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
               WHERE slot_name = $1 AND slot_type = 'physical'";
    match session.query_opt(sql, &[&name]).await {
        Ok(row) => Ok(Some(row.is_some())),
        Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => Ok(None),
        // Somebody else was quicker.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(Some(false)),
        Err(error) => Err(query_failure(&error, DOING)),
    }
}

/// The connection that uses a slot.
struct SlotUser {
    pid: i32,
    role: String,
    application: String,
    address: String,
}

impl SlotUser {
    async fn of(session: &Session, name: &str) -> Result<Option<Self>, Failure> {
        // Who may not see other roles' sessions sees their processes all the same.
        let sql = "SELECT s.active_pid, coalesce(a.usename::text, ''), \
                   coalesce(a.application_name, ''), coalesce(host(a.client_addr), '') \
                   FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
                   WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL";
        let row = session.query_opt(sql, &[&name]).await;
        let row = row.map_err(|error| query_failure(&error, "asking who uses the slot"))?;
        Ok(row.map(|row| Self {
            pid: row.get(0),
            role: row.get(1),
            application: row.get(2),
            address: row.get(3),
        }))
    }

    fn is_ours(&self) -> bool {
        self.application == APPLICATION_NAME
    }

    /// Ends it, if it still uses the slot and we may.
    async fn end(&self, session: &Session, name: &str) -> Result<(), Failure> {
        let sql = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
                   WHERE slot_name = $1 AND active_pid = $2";
        match session.query_opt(sql, &[&name, &self.pid]).await {
            Ok(_) => Ok(()),
            // It is of another role; it may end by itself.
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
            Err(error) => Err(query_failure(&error, "ending the connection that uses the slot")),
        }
    }
}

fn in_use(name: &str, user: Option<&SlotUser>) -> Failure {
    let who = user.map_or_else(
        || "a connection that changes".to_owned(),
        |user| {
            let SlotUser { pid, role, application, address } = user;
            format!("process {pid} (role {role:?}, application {application:?}, from {address:?})")
        },
    );
    let message = format!("{DOING} {name}: {who} uses it");
    let failure = Failure::new(Reason::StatementFailed, message).with_hint(
        "End that connection: SELECT pg_terminate_backend(PROCESS). Then it is tried again.",
    );
    Failure { class: ErrorClass::Retryable, ..failure }
}
