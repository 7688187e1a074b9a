//! What is watched while a client works: a request to stop, silence, locks.

use std::sync::Mutex;
use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{Activity, stalled};
use tokio_util::sync::CancellationToken;

use crate::connection::Session;

/// How long the server may take to say what a session does.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is asked whether a session waits for a lock.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Runs `work` until it ends, the run is cancelled, or nothing moves any more.
pub(crate) async fn guarded<T>(
    work: impl Future<Output = Result<T, Failure>>,
    activity: &Activity,
    stall_timeout: Duration,
    cancel: &CancellationToken,
    watcher: &SessionWatcher<'_>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(interrupted()),
        ended = work => ended,
        failure = stalled(activity, stall_timeout, async || watcher.excuse().await) => Err(failure),
        () = watcher.look_for_blockers() => Err(interrupted()),
    }
}

pub(crate) fn interrupted() -> Failure {
    Failure::new(Reason::Interrupted, "the run was told to stop")
}

/// Looks, by the server's list, at the sessions of one client.
pub(crate) struct SessionWatcher<'a> {
    /// A connection that does nothing else meanwhile.
    session: &'a Session,
    /// What the client's sessions are called.
    application_name: String,
    blocker: Mutex<Option<String>>,
}

impl<'a> SessionWatcher<'a> {
    pub(crate) fn new(session: &'a Session, application_name: String) -> Self {
        Self { session, application_name, blocker: Mutex::new(None) }
    }

    /// Who held the lock that was waited for last.
    pub(crate) fn blocker(&self) -> Option<String> {
        self.blocker.lock().ok().and_then(|blocker| blocker.clone())
    }

    /// Whether silence is work: a session that is busy and waits for nobody.
    async fn excuse(&self) -> Result<(), String> {
        let sql = "SELECT state, wait_event_type, wait_event FROM pg_stat_activity \
                   WHERE application_name = $1 ORDER BY (state = 'active') DESC LIMIT 1";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&self.application_name];
        let asked = self.session.query_opt(sql, &parameters);
        let row = match tokio::time::timeout(ASK_TIMEOUT, asked).await {
            Ok(Ok(Some(row))) => row,
            Ok(Ok(None)) => return Err("the server has no session of it".to_owned()),
            Ok(Err(_)) | Err(_) => return Err("the server does not answer".to_owned()),
        };
        let text = |index| row.get::<_, Option<String>>(index).unwrap_or_default();
        let (state, wait, event) = (text(0), text(1), text(2));
        if state == "active" && !matches!(wait.as_str(), "Client" | "Lock") {
            return Ok(());
        }
        let mut known = format!("its session on the server is {state:?}");
        if !wait.is_empty() {
            known.push_str(&format!(" and waits for {wait} {event}"));
        }
        if let Some(blocker) = self.blocker() {
            known.push_str(&format!("; {blocker}"));
        }
        Err(known)
    }

    /// Remembers who blocks the client, for a message. Never ends.
    async fn look_for_blockers(&self) {
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
