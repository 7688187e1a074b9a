//! Dropping a database that a restore made, whatever it has come to hold.

use dbbackup_contract::Failure;

use crate::ServerConnection;
use crate::connection::Session;
use crate::errors::query_failure;
use crate::sql::ident;

/// Major since which an event trigger may act on whoever comes in.
const LOGIN_TRIGGERS: u32 = 17;
/// What only a superuser may ask for.
const QUIET: &str = "-c event_triggers=off";

/// Drops it, if it is there; `how` ends the statement.
///
/// A template is not dropped, nor a database that has subscriptions: both are
/// undone first. These were never enabled, and the slots that they name are the
/// original's: those stay.
pub(super) async fn drop_database(
    session: &Session,
    connection: &ServerConnection,
    name: &str,
    how: &str,
) -> Result<(), Failure> {
    let doing = "dropping a database of a restore";
    let sql = "SELECT d.datistemplate, \
               EXISTS (SELECT FROM pg_subscription s WHERE s.subdbid = d.oid), \
               (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
               FROM pg_database d WHERE d.datname = $1";
    let row = session.query_opt(sql, &[&name]).await;
    let Some(row) = row.map_err(|error| query_failure(&error, doing))? else { return Ok(()) };
    if row.get(0) {
        session.run(&format!("ALTER DATABASE {} IS_TEMPLATE false", ident(name)), doing).await?;
    }
    if row.get(1) {
        let quietly = session.major >= LOGIN_TRIGGERS && row.get(2);
        drop_subscriptions(&open_within(connection, name, quietly).await?).await?;
    }
    session.run(&format!("DROP DATABASE IF EXISTS {} {how}", ident(name)), doing).await
}

/// A session in that database; where it may, and no pooler refuses it, one that
/// sets off no event trigger.
async fn open_within(
    connection: &ServerConnection,
    name: &str,
    quietly: bool,
) -> Result<Session, Failure> {
    if quietly && let Ok(session) = Session::open_with(connection, name, QUIET).await {
        return Ok(session);
    }
    Session::open(connection, name).await
}

/// Drops the subscriptions of the database that `session` is connected to: it
/// cannot be done from elsewhere.
async fn drop_subscriptions(session: &Session) -> Result<(), Failure> {
    let doing = "dropping the subscriptions of a database of a restore";
    let list = async |sql: &str| {
        let rows = session.query(sql, &[]).await.map_err(|error| query_failure(&error, doing))?;
        Ok::<Vec<String>, Failure>(rows.iter().map(|row| ident(row.get(0))).collect())
    };
    // Nothing that these do fires an event trigger; what follows would.
    let triggers = "SELECT evtname::text FROM pg_event_trigger WHERE evtenabled <> 'D'";
    for trigger in list(triggers).await? {
        session.run(&format!("ALTER EVENT TRIGGER {trigger} DISABLE"), doing).await?;
    }
    let subscriptions = "SELECT subname::text FROM pg_subscription WHERE subdbid = \
                         (SELECT oid FROM pg_database WHERE datname = current_database())";
    for subscription in list(subscriptions).await? {
        // One by one: together they would be a transaction, in which no slot is given up.
        for change in ["DISABLE", "SET (slot_name = NONE)"] {
            session.run(&format!("ALTER SUBSCRIPTION {subscription} {change}"), doing).await?;
        }
        session.run(&format!("DROP SUBSCRIPTION {subscription}"), doing).await?;
    }
    Ok(())
}
