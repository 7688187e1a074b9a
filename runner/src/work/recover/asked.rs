//! A server that was recovered for a drill is started once more, asked over its socket, and shut
//! down.

use std::path::Path;
use std::time::Instant;

use dbbackup_contract::{Assertion, DrillReport, Failure, Reason};
use dbbackup_postgres::{Answers, RecoveredServer, RecoveryPlan, major_of};

use super::super::Order;
use super::arguments::asked_arguments;
use super::attempt::milliseconds_since;
use super::replay::{Beside, Complaints, end};
use super::words::{self, Word, word};
use crate::shim_link::{Event, ShimLink};

impl Beside<'_> {
    /// Starts the recovered server, opens its databases, and asks the assertions. What was found is
    /// in the report, also where it fails. No server runs when it returns.
    ///
    /// # Errors
    /// Why it does not start, or a database does not open. That an assertion does not hold is no
    /// error here.
    pub(super) async fn ask(
        &mut self,
        order: &Order<'_>,
        data_dir: &Path,
        plan: &RecoveryPlan,
        assertions: &[Assertion],
        report: &mut DrillReport,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        self.folder.prepare_to_be_asked()?;
        let found = order.step(self.program(plan.server_version())).await?;
        let major = major_of(plan.server_version()).unwrap_or(0);
        let arguments = asked_arguments(data_dir, &self.folder, major);
        let server = RecoveredServer {
            socket: self.folder.socket(),
            roles: plan.login_roles().to_vec(),
            statement_timeout: order.stall_timeout,
        };
        let link = self.start(order, &found, &arguments).await?;
        let mut listener = Listener::default();
        let asked = async {
            listener.until_ready(link, order).await?;
            report.durations.starting_milliseconds = milliseconds_since(began);
            let mut answers = Answers::default();
            let asking = Instant::now();
            let ended = tokio::select! {
                ended = server.ask(assertions, &mut answers) => ended,
                lost = listener.until_end(link) => Err(lost),
            };
            report.durations.asserting_milliseconds = milliseconds_since(asking);
            report.databases = answers.databases;
            report.assertions = answers.assertions;
            ended
        };
        let asked = order.step(asked).await;
        if !listener.has_ended {
            end(link).await;
        }
        asked
    }
}

/// Listens to a server that is not recovering any more.
#[derive(Default)]
struct Listener {
    complaints: Complaints,
    has_ended: bool,
}

impl Listener {
    /// Until it takes connections.
    async fn until_ready(&mut self, link: &mut ShimLink, order: &Order<'_>) -> Result<(), Failure> {
        let limit = order.stall_timeout;
        let waiting = async {
            loop {
                if matches!(self.next(link).await?, Some(Word::Ready)) {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            let message = format!("the recovered server takes no connections after {seconds} s");
            Err(Failure::new(Reason::Stalled, message))
        })
    }

    /// Until it ends, which it should not. Its words have to be taken: it waits for that.
    async fn until_end(&mut self, link: &mut ShimLink) -> Failure {
        loop {
            if let Err(failure) = self.next(link).await {
                return failure;
            }
        }
    }

    async fn next(&mut self, link: &mut ShimLink) -> Result<Option<Word>, Failure> {
        match link.next().await? {
            Event::Ended { code, signal } => {
                self.has_ended = true;
                Err(self.complaints.why_ended(code, signal))
            }
            Event::Line(line) => {
                words::show(&line);
                let word = word(&line);
                if let Some(said @ (Word::Complaint(_) | Word::Unsuitable(_) | Word::NoRoom(_))) =
                    &word
                {
                    self.complaints.push(said.clone());
                }
                Ok(word)
            }
        }
    }
}
