//! The scratch database of one restored database: its name, its marks, and the
//! statements of each step.

use std::time::Duration;

use dbbackup_contract::Failure;
use sha2::{Digest, Sha256};

use super::dropping::drop_database;
use super::journal::{Marks, Seen, Situation};
use super::replacing::Replacing;
use crate::connection::Session;
use crate::errors::query_failure;
use crate::sql::{ident, literal};
use crate::{ServerConnection, Strategy};

/// How often sessions on the scratch database are ended before its rename is given up.
const RENAME_TRIES: u32 = 5;

/// A mark is this, the request, and how far it came.
pub(super) const MARK: &str = "dbbackup restore ";
pub(super) const LOADING: &str = ": loading";
pub(super) const LOADED: &str = ": loaded";
pub(super) const REPLACED: &str = ": replaced";

/// The beginning of the name of each scratch database, and how many characters follow.
const NAME: (&str, usize) = ("dbb_", 16);

/// Whether a name is of the kind that [`Scratch::new`] makes.
pub(super) fn is_scratch_name(name: &str) -> bool {
    let digits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.strip_prefix(NAME.0).is_some_and(|rest| rest.len() == NAME.1 && rest.bytes().all(digits))
}

/// Name and marks of a scratch database.
#[derive(Clone, Debug)]
pub(super) struct Scratch {
    pub(super) name: String,
    pub(super) target: String,
    pub(super) marks: Marks,
    /// What becomes of a database under the target's name, if it does not refuse the restore.
    pub(super) replacing: Option<Replacing>,
}

impl Scratch {
    /// The same for the same request and target, in every attempt.
    pub(super) fn new(request_uid: &str, target: &str, strategy: &Strategy) -> Self {
        let digest = digest(&[request_uid, target]);
        let number = u32::from_le_bytes([digest[10], digest[11], digest[12], digest[13]]);
        let mark = format!("{MARK}{request_uid}");
        // `REQUEST@SNAPSHOT`, where the snapshot is in it.
        let request = request_uid.split_inclusive('@').next().unwrap_or(request_uid);
        Self {
            name: scratch_name(&[request_uid, target]),
            target: target.to_owned(),
            marks: Marks {
                loading: format!("{mark}{LOADING}"),
                loaded: format!("{mark}{LOADED}"),
                // Larger than any limit that a person sets.
                connection_limit: 1_000_000_000 + i64::from(number % 1_000_000_000),
                replaced: format!("{mark}{REPLACED}"),
                placed: (format!("{MARK}{request}"), LOADED.to_owned()),
            },
            replacing: Replacing::new(strategy, request_uid, target),
        }
    }

    /// Whether a database under the target's name gives way.
    pub(super) fn replaces(&self) -> bool {
        self.replacing.is_some()
    }

    /// The name that what is replaced gets; empty where nothing is.
    pub(super) fn replaced_name(&self) -> &str {
        self.replacing.as_ref().map_or("", |replacing| &replacing.name)
    }

    /// The names of ours that the restore of this database gives.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let replaced = self.replacing.as_ref().map(|replacing| replacing.name.as_str());
        std::iter::once(self.name.as_str()).chain(replaced)
    }

    /// What is there under the names that the restore knows.
    pub(super) async fn look(&self, session: &Session) -> Result<Situation, Failure> {
        let replaced = match &self.replacing {
            Some(replacing) => look_at(session, &replacing.name).await?,
            None => None,
        };
        let scratch = look_at(session, &self.name).await?;
        Ok(Situation { scratch, target: look_at(session, &self.target).await?, replaced })
    }

    /// Creates it by `create`, which `CREATE DATABASE name` begins.
    pub(super) async fn create(&self, session: &Session, properties: &str) -> Result<(), Failure> {
        let sql = format!(
            "CREATE DATABASE {} {properties} CONNECTION LIMIT {}",
            ident(&self.name),
            self.marks.connection_limit
        );
        session.run(&sql, "creating the scratch database").await
    }

    /// Marks it as one that is being loaded, and keeps applications out.
    pub(super) async fn mark_loading(&self, session: &Session) -> Result<(), Failure> {
        let name = ident(&self.name);
        // Its own privileges are set before it gets its name.
        let sql = format!("REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC");
        session.run(&sql, "closing the scratch database").await?;
        self.comment(session, &self.name, Some(&self.marks.loading)).await
    }

    /// Marks it as loaded and compared.
    pub(super) async fn mark_loaded(&self, session: &Session) -> Result<(), Failure> {
        self.comment(session, &self.name, Some(&self.marks.loaded)).await
    }

    /// Drops it, with what an attempt that was killed left connected to it.
    pub(super) async fn drop(
        &self,
        session: &Session,
        connection: &ServerConnection,
    ) -> Result<(), Failure> {
        drop_database(session, connection, &self.name, "WITH (FORCE)").await
    }

    /// Gives it the target's name. Whoever is connected to it is sent away: it
    /// is ours, and nobody knows it.
    pub(super) async fn rename(&self, session: &Session) -> Result<(), Failure> {
        let doing = "renaming the scratch database";
        let sql = format!("ALTER DATABASE {} RENAME TO {}", ident(&self.name), ident(&self.target));
        let mut tries = 0;
        loop {
            match session.batch_execute(&sql).await {
                Ok(()) => return Ok(()),
                Err(error)
                    if tries < RENAME_TRIES
                        && error.code().is_some_and(|code| code.code() == "55006") =>
                {
                    tries += 1;
                    // An autovacuum worker may be neither ended nor waited for long:
                    // it goes by itself. The rename decides, not this.
                    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                               WHERE datname = $1 AND backend_type = 'client backend'";
                    if let Err(error) = session.query(end, &[&self.name]).await {
                        tracing::debug!(%error, "sessions on the scratch database stay");
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(query_failure(&error, doing)),
            }
        }
    }

    async fn comment(
        &self,
        session: &Session,
        database: &str,
        comment: Option<&str>,
    ) -> Result<(), Failure> {
        set_comment(session, database, comment).await
    }
}

/// Sets the comment of a database, or removes it.
pub(super) async fn set_comment(
    session: &Session,
    database: &str,
    comment: Option<&str>,
) -> Result<(), Failure> {
    let comment = comment.map_or_else(|| "NULL".to_owned(), literal);
    let sql = format!("COMMENT ON DATABASE {} IS {comment}", ident(database));
    session.run(&sql, "marking the database").await
}

/// A database's comment and connection limit; `None` where there is no such database.
pub(super) async fn look_at(session: &Session, database: &str) -> Result<Option<Seen>, Failure> {
    let sql = "SELECT shobj_description(oid, 'pg_database'), datconnlimit::bigint \
               FROM pg_database WHERE datname = $1";
    let row = session
        .query_opt(sql, &[&database])
        .await
        .map_err(|error| query_failure(&error, "looking at the databases"))?;
    Ok(row.map(|row| Seen { comment: row.get(0), connection_limit: row.get(1) }))
}

/// A name of the kind of scratch databases' for what `parts` name.
pub(super) fn scratch_name(parts: &[&str]) -> String {
    format!("{}{}", NAME.0, base32(&digest(parts)[..10]))
}

/// No two lists of parts have the same: none of ours holds a zero byte.
fn digest(parts: &[&str]) -> [u8; 32] {
    Sha256::digest(parts.join("\0")).into()
}

/// Crockford's digits, in lower case: no letter that looks like another.
fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let (mut text, mut bits, mut count) = (String::new(), 0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(DIGITS[(bits >> count & 31) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(request: &str, target: &str) -> Scratch {
        Scratch::new(request, target, &Strategy::CreateNew)
    }

    #[test]
    fn a_scratch_name_has_sixteen_characters_and_is_the_same_in_a_retry() {
        let one = scratch("4f1c", "shop");
        assert_eq!(one.name, scratch("4f1c", "shop").name);
        assert!(is_scratch_name(&one.name), "{}", one.name);
        assert_ne!(one.name, scratch("4f1c", "crm").name);
        assert_ne!(one.name, scratch("4f1d", "shop").name);
    }
}
