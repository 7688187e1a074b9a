//! The way back to the operator: progress or the state of a log while the run goes
//! on, the report when it has ended, over HTTPS with the pod's own token.
//!
//! A thread of its own sends; the data path never waits for it. Of the news only
//! the newest is sent. A report that cannot be delivered is no failure of
//! the run: it stands in the repository and in the pod's termination message,
//! and the operator looks there.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dbbackup_contract::{
    Failure, LogStatus, Message, Progress, REPORT_TOKEN_FILE, Reason, Report, ReportBody,
    ReportEndpoint,
};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

/// News are sent no more often than this.
const NEWS_INTERVAL: Duration = Duration::from_secs(2);
/// One request may take so long in all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The report is tried again for so long: an operator that restarts is back by then.
const REPORT_PATIENCE: Duration = Duration::from_secs(90);
/// First wait between two tries, doubled each time up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// What the sending thread has to do next.
#[derive(Default)]
struct Pending {
    /// That the run goes on, as it says it.
    news: Option<ReportBody>,
    report: Option<Report>,
    /// The run is over; whether or not a report follows.
    closed: bool,
}

struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

impl Shared {
    /// The state; a panic of the other side does not make it invalid.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open report channel.
pub(crate) struct ReportChannel {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<bool>>,
}

impl ReportChannel {
    /// Opens the channel to `endpoint` for the task of `subject_uid`.
    ///
    /// # Errors
    /// `TaskInvalid` when the endpoint's CA cannot be read.
    pub(crate) fn open(endpoint: &ReportEndpoint, subject_uid: &str) -> Result<Self, Failure> {
        Self::open_with_token(endpoint, subject_uid, REPORT_TOKEN_FILE.as_ref())
    }

    fn open_with_token(
        endpoint: &ReportEndpoint,
        subject_uid: &str,
        token_file: &Path,
    ) -> Result<Self, Failure> {
        let sender = Sender {
            agent: agent(&endpoint.ca_pem)?,
            url: endpoint.url.clone(),
            subject_uid: subject_uid.to_owned(),
            token_file: token_file.to_owned(),
        };
        let shared =
            Arc::new(Shared { pending: Mutex::new(Pending::default()), changed: Condvar::new() });
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("report".to_owned())
            .spawn(move || serve(&sender, &in_thread))
            .map_err(|error| {
                Failure::new(Reason::Internal, format!("no thread for reports: {error}"))
            })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sends `progress` soon; a newer one takes its place.
    pub(crate) fn progress(&self, progress: Progress) {
        self.tell(ReportBody::Progress(progress));
    }

    /// Sends how a log is archived soon; a newer state takes its place.
    pub(crate) fn log(&self, status: LogStatus) {
        self.tell(ReportBody::Log(Box::new(status)));
    }

    fn tell(&self, news: ReportBody) {
        self.shared.lock().news = Some(news);
        self.shared.changed.notify_one();
    }

    /// Sends the report and waits until it has arrived, or until patience ends.
    /// Says whether it has arrived.
    pub(crate) fn finish(mut self, report: &Report) -> bool {
        self.shared.lock().report = Some(report.clone());
        self.close()
    }

    fn close(&mut self) -> bool {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        self.thread.take().is_some_and(|thread| thread.join().unwrap_or(false))
    }
}

impl Drop for ReportChannel {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.close();
        }
    }
}

/// HTTPS with the operator's own CA and no other.
fn agent(ca_pem: &str) -> Result<ureq::Agent, Failure> {
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(ca_pem.as_bytes()) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(bad_ca(&error.to_string())),
        }
    }
    if certificates.is_empty() {
        return Err(bad_ca("it holds no certificate"));
    }
    let roots: Vec<Certificate<'static>> = certificates;
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .timeout_global(Some(REQUEST_TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("dbbackup-runner/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(config.into())
}

fn bad_ca(why: &str) -> Failure {
    Failure::new(Reason::TaskInvalid, format!("the CA of the report channel cannot be used: {why}"))
}

/// Sends what is pending until the channel is closed. Gives whether a report arrived.
fn serve(sender: &Sender, shared: &Shared) -> bool {
    let mut last_sent: Option<Instant> = None;
    loop {
        let mut pending = shared.lock();
        while pending.news.is_none() && !pending.closed {
            pending = shared.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        let wait =
            last_sent.map_or(Duration::ZERO, |last| NEWS_INTERVAL.saturating_sub(last.elapsed()));
        while !pending.closed && !wait.is_zero() {
            let (woken, timeout) = shared
                .changed
                .wait_timeout_while(pending, wait, |pending| !pending.closed)
                .unwrap_or_else(PoisonError::into_inner);
            pending = woken;
            if timeout.timed_out() {
                break;
            }
        }
        if pending.closed {
            let report = pending.report.take();
            drop(pending);
            return report.is_some_and(|report| sender.deliver(report));
        }
        let news = pending.news.take();
        drop(pending);
        if let Some(news) = news {
            if let Err(error) = sender.send(news.clone()) {
                tracing::debug!(%error, "news did not arrive");
                if matches!(error, SendError::Other(_)) {
                    // It may be the last news for a long while: a run that waits has no other.
                    shared.lock().news.get_or_insert(news);
                }
            }
            last_sent = Some(Instant::now());
        }
    }
}

struct Sender {
    agent: ureq::Agent,
    url: String,
    subject_uid: String,
    token_file: PathBuf,
}

impl Sender {
    /// Tries until the report has arrived, the operator refuses it, or patience ends.
    fn deliver(&self, report: Report) -> bool {
        let body = ReportBody::Report(Box::new(report));
        let end = Instant::now() + REPORT_PATIENCE;
        let mut wait = FIRST_WAIT;
        loop {
            match self.send(body.clone()) {
                Ok(()) => return true,
                Err(SendError::Refused(status)) => {
                    tracing::warn!(status, "the operator refused the report");
                    return false;
                }
                Err(error) if Instant::now() + wait >= end => {
                    tracing::warn!(%error, "the report did not arrive");
                    return false;
                }
                Err(error) => tracing::debug!(%error, "the report did not arrive yet"),
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn send(&self, body: ReportBody) -> Result<(), SendError> {
        let message = Message { subject_uid: self.subject_uid.clone(), body };
        let json =
            serde_json::to_vec(&message).map_err(|error| SendError::Other(error.to_string()))?;
        // Read again each time: the kubelet renews it.
        let token = std::fs::read_to_string(&self.token_file)
            .map_err(|error| SendError::Other(format!("token: {error}")))?;
        self.agent
            .post(&self.url)
            .header("authorization", format!("Bearer {}", token.trim_end()))
            .header("content-type", "application/json")
            .send(&json)
            .map(drop)
            .map_err(SendError::from)
    }
}

/// Why a message did not arrive.
#[derive(Debug)]
enum SendError {
    /// The operator will not take it, now or later.
    Refused(u16),
    /// Anything else; worth another try.
    Other(String),
}

impl From<ureq::Error> for SendError {
    fn from(error: ureq::Error) -> Self {
        match error {
            // 401 and 403 are final: the token is read afresh for each try.
            // 404 is not: a Service may lead to an old pod for a moment.
            ureq::Error::StatusCode(status @ (400 | 401 | 403 | 409 | 410 | 413 | 422)) => {
                Self::Refused(status)
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "refused with status {status}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
#[path = "report_channel_tests.rs"]
mod tests;
