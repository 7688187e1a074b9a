//! A recovered server that runs beside this process for a drill: whether each of its databases
//! opens, and what it answers.
//!
//! Nobody has its passwords. It trusts whoever reaches its socket, so that a role's name is all
//! that is needed: the base has recorded some.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dbbackup_contract::{
    Assertion, AssertionReport, DrillOutcome, Failure, MAX_ASSERTION_MESSAGE, Reason,
};

use crate::connection::Session;
use crate::errors::{is_server_lost, query_failure};
use crate::restore::assertions::answer;
use crate::server::MAINTENANCE_DATABASES;

/// How long one connection may take to be made.
const OPENS_WITHIN: Duration = Duration::from_secs(60);
/// The superuser of most servers, for bases that have recorded none.
const USUAL_SUPERUSER: &str = "postgres";

/// A server that was recovered, and runs.
#[derive(Clone, Debug)]
pub struct RecoveredServer {
    /// Its socket.
    pub socket: PathBuf,
    /// Roles that could log in when its base was made.
    pub roles: Vec<String>,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

/// What a recovered server answered.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Databases that were opened.
    pub databases: u32,
    /// In the order of the assertions.
    pub assertions: Vec<AssertionReport>,
}

impl RecoveredServer {
    /// Opens each database, and asks all assertions; one that does not hold keeps no other from
    /// being asked. What was found so far is in `answers`, also where it fails.
    ///
    /// # Errors
    /// `PermissionDenied` where no role is known that can log in, and why a database does not open;
    /// or the server is lost. That an assertion does not hold is no error.
    pub async fn ask(
        &self,
        assertions: &[Assertion],
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let session = self.log_in().await?;
        let role = superuser(&session).await?;
        let databases = databases(&session).await?;
        drop(session);
        for database in &databases {
            self.opens(&role, database).await?;
            answers.databases += 1;
        }
        for assertion in assertions {
            let began = Instant::now();
            let answer = if databases.contains(&assertion.database) {
                self.answer(&role, assertion).await?
            } else {
                let database = &assertion.database;
                Some(format!("the recovered server has no database {database} that can be opened"))
            };
            answers.assertions.push(report(assertion, answer, began.elapsed()));
        }
        Ok(())
    }

    async fn open(&self, role: &str, database: &str) -> Result<Session, Failure> {
        Session::open_local(&self.socket, role, database, OPENS_WITHIN).await
    }

    /// A session of the first role that is still there.
    async fn log_in(&self) -> Result<Session, Failure> {
        let usual = USUAL_SUPERUSER.to_owned();
        let mut tried: Vec<&str> = Vec::new();
        for role in self.roles.iter().chain([&usual]).map(String::as_str) {
            if tried.contains(&role) {
                continue;
            }
            tried.push(role);
            for database in MAINTENANCE_DATABASES {
                match self.open(role, database).await {
                    Ok(session) => return Ok(session),
                    Err(failure) if is_server_lost(failure.reason) && !is_of_role(&failure) => {
                        return Err(failure);
                    }
                    Err(failure) => tracing::info!(role, database, %failure, "no way in"),
                }
            }
        }
        let message = format!("no role is known that can log in: {} cannot", tried.join(", "));
        Err(Failure::new(Reason::PermissionDenied, message).with_hint(
            "Make a new base (a Backup with scheduleRef): it records roles that may log in. One of \
             these has to be there still.",
        ))
    }

    /// Whether a database opens, and its catalogue can be read.
    async fn opens(&self, role: &str, database: &str) -> Result<(), Failure> {
        let reading = async {
            let session = self.open(role, database).await?;
            self.limit(&session).await?;
            let doing = "reading the catalogue";
            let count = session.query_one("SELECT count(*) FROM pg_catalog.pg_class", &[]).await;
            count.map(drop).map_err(|error| query_failure(&error, doing))
        };
        let failed = |failure: Failure| Failure {
            message: format!(
                "the database {database} of the recovered server: {}",
                failure.message
            ),
            ..failure
        };
        reading.await.map_err(failed)
    }

    /// Why an assertion does not hold, if it does not. Each has a session of its own: what one
    /// leaves behind does not reach the next.
    async fn answer(&self, role: &str, assertion: &Assertion) -> Result<Option<String>, Failure> {
        let session = self.open(role, &assertion.database).await?;
        self.limit(&session).await?;
        Ok(answer(&session, &assertion.query).await?.err())
    }

    async fn limit(&self, session: &Session) -> Result<(), Failure> {
        let milliseconds = self.statement_timeout.as_millis().clamp(1, 2_000_000_000);
        let sql = format!("SET statement_timeout = {milliseconds}");
        session.run(&sql, "setting up the session").await
    }
}

/// Whether it is the role that cannot log in, and not the server that is away.
fn is_of_role(failure: &Failure) -> bool {
    matches!(failure.reason, Reason::WrongPassword | Reason::TooManyConnections)
}

/// The first superuser that may log in: it reads all. Where there is none, our own role has to do.
async fn superuser(session: &Session) -> Result<String, Failure> {
    let doing = "asking for a superuser";
    let sql = "SELECT coalesce((SELECT rolname::text FROM pg_roles \
               WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1), current_user::text)";
    let row = session.query_one(sql, &[]).await.map_err(|error| query_failure(&error, doing))?;
    Ok(row.get(0))
}

/// The databases that can be opened.
async fn databases(session: &Session) -> Result<Vec<String>, Failure> {
    let doing = "listing the databases";
    let sql = "SELECT datname::text FROM pg_database \
               WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname";
    let rows = session.query(sql, &[]).await.map_err(|error| query_failure(&error, doing))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn report(assertion: &Assertion, answer: Option<String>, took: Duration) -> AssertionReport {
    let shortened = |text: String| text.chars().take(MAX_ASSERTION_MESSAGE).collect();
    AssertionReport {
        name: assertion.name.clone(),
        outcome: if answer.is_none() { DrillOutcome::Passed } else { DrillOutcome::Failed },
        duration_milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        message: answer.map(shortened),
    }
}
