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

use super::locks::RestoreLock;
use super::scratch::{LOADED, LOADING, MARK, Scratch, look_at};
use crate::connection::Session;
use crate::errors::{is_server_lost, query_failure};
use crate::options::{LeftBehind, Leftover};
use crate::sql::ident;
use crate::watch::Guard;

/// Names of scratch databases, as [`Scratch::new`] makes them.
const SCRATCH_NAMES: &str = "^dbb_[0-9a-z]{16}$";
/// A connection limit from here on is a number of ours.
const FIRST_NUMBER: i64 = 1_000_000_000;

/// What a database with a scratch name is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Half loaded, by the restore with this mark.
    Loading(String),
    /// Loaded, by the restore with this mark.
    Loaded(String),
    /// Created, and not marked yet.
    Unmarked,
    /// Nothing of ours.
    Foreign,
}

fn kind_of(comment: Option<&str>, connection_limit: i64) -> Kind {
    let Some(comment) = comment else {
        return if connection_limit >= FIRST_NUMBER { Kind::Unmarked } else { Kind::Foreign };
    };
    let mark = |state: &str| comment.strip_prefix(MARK)?.strip_suffix(state);
    match (mark(LOADING), mark(LOADED)) {
        (Some(request), _) => Kind::Loading(request.to_owned()),
        (None, Some(request)) => Kind::Loaded(request.to_owned()),
        (None, None) => Kind::Foreign,
    }
}

/// Drops what can be dropped, and says what stays. `own` are the scratch
/// databases of this restore: its journal looks after them.
///
/// # Errors
/// Only when the server is lost: what stays is no failure of this restore.
pub(super) async fn clear_away(
    guard: &Guard<'_>,
    session: &Session,
    own: &[&Scratch],
) -> Result<Vec<LeftBehind>, Failure> {
    guard.waiting_for("the server to list what other restores left");
    let sql = "SELECT datname::text FROM pg_database WHERE datname ~ $1 ORDER BY datname";
    let rows = session
        .query(sql, &[&SCRATCH_NAMES])
        .await
        .map_err(|error| query_failure(&error, "listing what other restores left"))?;
    let mut left = Vec::new();
    for name in rows.iter().map(|row| row.get::<_, String>(0)) {
        if own.iter().any(|scratch| scratch.name == name) {
            continue;
        }
        guard.waiting_for(format!("the server to drop database {name}, which a restore left"));
        match clear_one(session, &name).await {
            Ok(None) => {}
            Ok(Some(leftover)) => {
                tell(&name, &leftover);
                left.push(LeftBehind { name, leftover });
            }
            Err(failure) if is_server_lost(failure.reason) => return Err(failure),
            Err(failure) => {
                let leftover = Leftover::Stays(failure.message);
                tell(&name, &leftover);
                left.push(LeftBehind { name, leftover });
            }
        }
    }
    Ok(left)
}

/// What became of one database; `None` if there is nothing to say of it.
async fn clear_one(session: &Session, name: &str) -> Result<Option<Leftover>, Failure> {
    let lock = RestoreLock::of_scratch(name);
    if !lock.try_take(session).await? {
        info!(scratch = name, "another restore works with it");
        return Ok(None);
    }
    // Looked at under the lock: before, it could have been somebody's.
    let outcome = drop_if_loading(session, name).await;
    lock.give_back(session).await?;
    outcome
}

async fn drop_if_loading(session: &Session, name: &str) -> Result<Option<Leftover>, Failure> {
    let Some(seen) = look_at(session, name).await? else { return Ok(None) };
    Ok(match kind_of(seen.comment.as_deref(), seen.connection_limit) {
        Kind::Foreign => None,
        Kind::Loaded(request) => Some(Leftover::Stays(format!(
            "restore {request} has loaded it and only has to rename it"
        ))),
        Kind::Unmarked => Some(Leftover::Stays("it was created and not marked".to_owned())),
        Kind::Loading(request) => {
            // Not by force: whoever is connected to it is nobody of ours, or the
            // server has yet to notice that it is gone.
            let sql = format!("DROP DATABASE {}", ident(name));
            session.run(&sql, "dropping what a restore left").await?;
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

    #[test]
    fn only_a_whole_mark_counts() {
        let scratch = Scratch::new("4f1c@snapshot", "shop");
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
