//! Scratch databases that restores left behind and nobody will take up: their
//! request was deleted. A later restore on the same server clears them away.
//!
//! Only what bears the mark of a restore that was loading is dropped, and only
//! under the lock of its scratch name: no session of ours works with it then,
//! and none can begin to. To the restore that it belongs to nothing is lost: its
//! next attempt would drop it, too, and begin again. What is loaded is never
//! dropped: that restore would only have to rename it.

use dbbackup_contract::Failure;
use tracing::{info, warn};

use super::dropping::drop_database;
use super::locks::RestoreLock;
use super::scratch::{LOADED, LOADING, MARK, REPLACED, is_scratch_name, look_at};
use crate::ServerConnection;
use crate::connection::Session;
use crate::errors::{is_session_lost, query_failure};
use crate::options::{LeftBehind, Leftover};
use crate::server::open_session;
use crate::watch::Guard;

/// A connection limit from here on is a number of ours.
const FIRST_NUMBER: i64 = 1_000_000_000;

/// What a database with a scratch name is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Half loaded, by the restore with this mark.
    Loading(String),
    /// Loaded, by the restore with this mark.
    Loaded(String),
    /// Replaced, by the restore with this mark, and not dropped yet.
    Replaced(String),
    /// Created, and not marked yet.
    Unmarked,
    /// Nothing of ours.
    Foreign,
}

/// Whether a database is one that a restore is making, or left behind: by its
/// name and by its mark or number.
pub(crate) fn is_scratch(name: &str, comment: Option<&str>, connection_limit: i64) -> bool {
    is_scratch_name(name) && kind_of(comment, connection_limit) != Kind::Foreign
}

fn kind_of(comment: Option<&str>, connection_limit: i64) -> Kind {
    let Some(comment) = comment else {
        return if connection_limit >= FIRST_NUMBER { Kind::Unmarked } else { Kind::Foreign };
    };
    let mark = |state: &str| comment.strip_prefix(MARK)?.strip_suffix(state);
    if let Some(request) = mark(LOADING) {
        Kind::Loading(request.to_owned())
    } else if let Some(request) = mark(LOADED) {
        Kind::Loaded(request.to_owned())
    } else if let Some(request) = mark(REPLACED) {
        Kind::Replaced(request.to_owned())
    } else {
        Kind::Foreign
    }
}

/// Drops what can be dropped, and says what stays. `own` are the names that this
/// restore gives: its journal looks after them.
///
/// It has a session of its own, which is given up where a drop hangs: what others
/// left is no failure of this restore.
///
/// # Errors
/// Only when the run is told to stop.
pub(super) async fn clear_away(
    guard: &Guard<'_>,
    connection: &ServerConnection,
    own: &[&str],
) -> Result<Vec<LeftBehind>, Failure> {
    guard.waiting_for("the server to list what other restores left");
    let listed = async {
        let session = open_session(connection).await?;
        let names = scratch_databases(&session).await?;
        Ok((session, names))
    };
    let (session, names) = match guard.wait(listed).await {
        Ok(listed) => listed,
        Err(failure) if guard.is_stopped() => return Err(failure),
        Err(failure) => {
            warn!(%failure, "what other restores left is not known");
            return Ok(Vec::new());
        }
    };
    let mut left = Vec::new();
    for name in names.into_iter().filter(|name| !own.contains(&name.as_str())) {
        guard.waiting_for(format!("the server to drop database {name}, which a restore left"));
        let (leftover, goes_on) =
            match guard.on(&session, clear_one(&session, connection, &name)).await {
                Ok(None) => continue,
                Ok(Some(leftover)) => (leftover, true),
                Err(failure) if guard.is_stopped() => return Err(failure),
                Err(failure) => {
                    let goes_on = !is_session_lost(&failure);
                    (Leftover::Stays(failure.message), goes_on)
                }
            };
        tell(&name, &leftover);
        left.push(LeftBehind { name, leftover });
        if !goes_on {
            break;
        }
    }
    Ok(left)
}

async fn scratch_databases(session: &Session) -> Result<Vec<String>, Failure> {
    let sql = "SELECT datname::text FROM pg_database ORDER BY datname";
    let rows = session
        .query(sql, &[])
        .await
        .map_err(|error| query_failure(&error, "listing what other restores left"))?;
    let names = rows.iter().map(|row| row.get::<_, String>(0));
    Ok(names.filter(|name| is_scratch_name(name)).collect())
}

/// What became of one database; `None` if there is nothing to say of it.
async fn clear_one(
    session: &Session,
    connection: &ServerConnection,
    name: &str,
) -> Result<Option<Leftover>, Failure> {
    let lock = RestoreLock::of_scratch(name);
    if !lock.try_take(session).await? {
        info!(scratch = name, "another restore works with it");
        return Ok(None);
    }
    // Looked at under the lock: before, it could have been somebody's.
    let outcome = drop_if_loading(session, connection, name).await;
    lock.give_back(session).await?;
    outcome
}

async fn drop_if_loading(
    session: &Session,
    connection: &ServerConnection,
    name: &str,
) -> Result<Option<Leftover>, Failure> {
    let Some(seen) = look_at(session, name).await? else { return Ok(None) };
    Ok(match kind_of(seen.comment.as_deref(), seen.connection_limit) {
        Kind::Foreign => None,
        Kind::Loaded(request) => Some(Leftover::Stays(format!(
            "restore {request} has loaded it and only has to rename it"
        ))),
        Kind::Replaced(request) => Some(Leftover::Stays(format!(
            "restore {request} has replaced it and only has to drop it"
        ))),
        Kind::Unmarked => Some(Leftover::Stays("it was created and not marked".to_owned())),
        Kind::Loading(request) => {
            // Not by force: whoever is connected to it is nobody of ours, or the
            // server has yet to notice that it is gone.
            drop_database(session, connection, name, "").await?;
            Some(Leftover::Dropped(request))
        }
    })
}

fn tell(name: &str, leftover: &Leftover) {
    match leftover {
        Leftover::Dropped(request) => {
            warn!(
                scratch = name,
                request, "dropped what a restore that is gone had left half loaded"
            );
        }
        Leftover::Stays(why) => warn!(
            scratch = name,
            "a restore left a database that stays: {why}; if that restore is not tried again, drop it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Strategy;
    use crate::restore::scratch::Scratch;

    #[test]
    fn a_scratch_database_has_a_name_and_a_mark_or_number_of_ours() {
        let scratch = Scratch::new("4f1c@snapshot", "shop", &Strategy::CreateNew);
        let (name, marks) = (scratch.name.as_str(), &scratch.marks);
        assert!(is_scratch(name, Some(&marks.loading), -1));
        assert!(is_scratch(name, Some(&marks.loaded), -1));
        assert!(is_scratch(name, Some(&marks.replaced), -1));
        assert!(is_scratch(name, None, marks.connection_limit));
        assert!(!is_scratch(name, Some("my own"), marks.connection_limit));
        assert!(!is_scratch(name, None, -1));
        for other in ["shop", "dbb_shop", "dbb_0123456789abcdeF", "dbb_0123456789abcdefg"] {
            assert!(!is_scratch(other, Some(&marks.loaded), marks.connection_limit), "{other}");
        }
    }

    #[test]
    fn only_a_whole_mark_counts() {
        let scratch = Scratch::new("4f1c@snapshot", "shop", &Strategy::CreateNew);
        let request = "4f1c@snapshot".to_owned();
        let marks = scratch.marks;
        assert_eq!(kind_of(Some(&marks.loading), -1), Kind::Loading(request.clone()));
        assert_eq!(kind_of(Some(&marks.loaded), -1), Kind::Loaded(request));
        assert_eq!(kind_of(None, marks.connection_limit), Kind::Unmarked);
        for comment in ["", "loading", "dbbackup restore 4f1c", "my dbbackup restore 4f1c: loading"]
        {
            assert_eq!(kind_of(Some(comment), marks.connection_limit), Kind::Foreign, "{comment}");
        }
        assert_eq!(kind_of(None, -1), Kind::Foreign);
        assert_eq!(kind_of(None, 100), Kind::Foreign);
    }
}
