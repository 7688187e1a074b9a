//! What is watched while a server, a client or a repository works: a request to
//! stop, silence, locks.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{Activity, stalled};
use tokio_util::sync::CancellationToken;

use crate::ServerConnection;
use crate::connection::Session;
use crate::server::open_session;

/// How long the server may take to say what a session does.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where silence is a stall sooner: no shorter than this.
const SHORTEST_ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is asked whether a session waits for a lock.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Guards the steps of a run: each ends with its work, or when the run is told
/// to stop, or when nothing moves any more.
pub(crate) struct Guard<'a> {
    connection: &'a ServerConnection,
    cancel: &'a CancellationToken,
    activity: Activity,
}

impl<'a> Guard<'a> {
    pub(crate) fn new(connection: &'a ServerConnection, cancel: &'a CancellationToken) -> Self {
        Self { connection, cancel, activity: Activity::default() }
    }

    /// Whether the run was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Says what is waited for from now on; see [`Activity::waiting_for`].
    pub(crate) fn waiting_for(&self, what: impl Into<String>) {
        self.activity.waiting_for(what);
    }

    /// What moves, for whoever moves bytes.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// How long the server may take for an answer that costs it nothing.
    pub(crate) fn ask_timeout(&self) -> Duration {
        ASK_TIMEOUT.min(self.connection.stall_timeout.max(SHORTEST_ASK_TIMEOUT))
    }

    /// Work whose silence nothing excuses: connecting, and what a repository does.
    pub(crate) async fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.until(work, async || Err(String::new())).await
    }

    /// Statements on `session`: copying or dropping a large database is silent
    /// too. The server is asked by another session, which is made for it.
    pub(crate) async fn on<T>(
        &self,
        session: &Session,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let probe = async || {
            let asked = async {
                let other = open_session(self.connection).await?;
                Ok(excuse(&other, "pid = $1", &session.pid).await)
            };
            match tokio::time::timeout(self.ask_timeout(), asked).await {
                Ok(Ok(answer)) => answer,
                Ok(Err::<_, Failure>(failure)) => {
                    Err(format!("the server cannot be asked why: {}", failure.message))
                }
                Err(_) => Err("the server does not answer".to_owned()),
            }
        };
        self.until(work, probe).await
    }

    /// A client's work: it is excused while its session is busy, and who blocks
    /// it is remembered.
    pub(crate) async fn client<T>(
        &self,
        watcher: &ClientWatcher<'_>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let watched = async {
            tokio::select! {
                ended = work => ended,
                never = watcher.look_for_blockers() => match never {},
            }
        };
        self.until(watched, async || watcher.excuse(self.ask_timeout()).await).await
    }

    async fn until<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
        probe: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(interrupted()),
            ended = work => ended,
            failure = stalled(&self.activity, self.connection.stall_timeout, probe) => Err(failure),
        }
    }
}

pub(crate) fn interrupted() -> Failure {
    Failure::new(Reason::Interrupted, "the run was told to stop")
}

/// Whether silence is work: a session that is busy and waits for nobody. `which`
/// chooses it by `value`.
async fn excuse(
    asking: &Session,
    which: &str,
    value: &(dyn tokio_postgres::types::ToSql + Sync),
) -> Result<(), String> {
    let sql = format!(
        "SELECT state, wait_event_type, wait_event FROM pg_stat_activity \
         WHERE {which} ORDER BY (state = 'active') DESC LIMIT 1"
    );
    let row = match asking.query_opt(&sql, &[value]).await {
        Ok(Some(row)) => row,
        Ok(None) => return Err("the server has no session of it".to_owned()),
        Err(_) => return Err("the server does not answer".to_owned()),
    };
    let text = |index| row.get::<_, Option<String>>(index).unwrap_or_default();
    let (state, wait, event) = (text(0), text(1), text(2));
    // A barrier waits until every other session has heard something, and a commit
    // may wait for a standby: moments, or for ever where one of them hangs.
    let waits = matches!(wait.as_str(), "Client" | "Lock")
        || matches!(event.as_str(), "ProcSignalBarrier" | "SyncRep");
    if state == "active" && !waits {
        return Ok(());
    }
    let mut known = format!("its session on the server is {state:?}");
    if !wait.is_empty() {
        known.push_str(&format!(" and waits for {wait} {event}"));
    }
    Err(known)
}

/// Looks, by the server's list, at the sessions of one client.
pub(crate) struct ClientWatcher<'a> {
    /// A connection that does nothing else meanwhile.
    session: &'a Session,
    /// What the client's sessions are called.
    application_name: String,
    blocker: Mutex<Option<String>>,
}

impl<'a> ClientWatcher<'a> {
    pub(crate) fn new(session: &'a Session, application_name: String) -> Self {
        Self { session, application_name, blocker: Mutex::new(None) }
    }

    /// Who held the lock that was waited for last.
    pub(crate) fn blocker(&self) -> Option<String> {
        self.blocker.lock().ok().and_then(|blocker| blocker.clone())
    }

    async fn excuse(&self, limit: Duration) -> Result<(), String> {
        let asked = excuse(self.session, "application_name = $1", &self.application_name);
        let mut known = match tokio::time::timeout(limit, asked).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(known)) => known,
            Err(_) => "the server does not answer".to_owned(),
        };
        if let Some(blocker) = self.blocker() {
            known.push_str(&format!("; {blocker}"));
        }
        Err(known)
    }

    /// Remembers who blocks the client, for a message.
    async fn look_for_blockers(&self) -> Infallible {
        let sql = "SELECT b.pid, b.usename::text, b.application_name, b.state \
                   FROM pg_stat_activity a, unnest(pg_blocking_pids(a.pid)) AS blocking(pid) \
                       JOIN pg_stat_activity b USING (pid) \
                   WHERE a.application_name = $1 LIMIT 1";
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let Ok(Some(row)) = self.session.query_opt(sql, &[&self.application_name]).await else {
                continue;
            };
            let pid: i32 = row.get(0);
            let text = |index| row.get::<_, Option<String>>(index).unwrap_or_default();
            let (user, application, state) = (text(1), text(2), text(3));
            let held = format!(
                "the lock is held by session {pid} (user {user}, application {application:?}, {state})"
            );
            if let Ok(mut blocker) = self.blocker.lock() {
                *blocker = Some(held);
            }
        }
    }
}
