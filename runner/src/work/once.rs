//! Requests that are carried out once, whoever creates their object anew: by the ledger of the
//! repository (`docs/format.md`, "Ledger").

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dbbackup_contract::{Failure, Outcome, Reason, RequestKey, RestoreAction, RestoreReport};
use dbbackup_postgres::Permission;
use dbbackup_repository::{LedgerEntry, LedgerKey, Repository};

use super::Order;
use crate::patience::with_grace;

/// What is carried out once, by the repository's ledger.
pub(super) struct Once {
    repository: Repository,
    request: RequestKey,
    uid: String,
    seen: Mutex<Seen>,
}

/// What was seen while it was asked for.
#[derive(Default)]
struct Seen {
    /// The identity of the server.
    server: String,
    /// What an attempt before this one reported at its end.
    report: Option<RestoreReport>,
}

impl Once {
    /// Where databases are replaced, and the action says whose request it is.
    pub(super) fn of(
        action: &RestoreAction,
        repository: &Repository,
    ) -> Result<Option<Arc<Self>>, Failure> {
        let (Some(request), Some(_)) = (&action.once, &action.replace) else { return Ok(None) };
        repository.may_write().map_err(|error| {
            Failure::from(error).with_hint(
                "A restore that replaces databases is noted in its repository. Use CreateNew, or \
                 restore from a copy in a repository that may be written to.",
            )
        })?;
        Ok(Some(Arc::new(Self {
            repository: repository.clone(),
            request: request.clone(),
            uid: action.request_uid.clone(),
            seen: Mutex::default(),
        })))
    }

    /// What marks its databases, on whatever server: the same for an object that is created anew.
    pub(super) fn mark(&self) -> String {
        self.key("").as_str().to_owned()
    }

    fn key(&self, server: &str) -> LedgerKey {
        let RequestKey { namespace, name, spec_digest } = &self.request;
        self.repository.ledger_key(namespace, name, spec_digest, server)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the ledger.
    pub(super) fn permission(self: &Arc<Self>) -> Permission {
        let once = Arc::clone(self);
        Permission::new(move |server| {
            let once = Arc::clone(&once);
            Box::pin(async move { once.ask(server).await })
        })
    }

    /// # Errors
    /// `AlreadyCarriedOut` and `CarriedOutInPart` where it was a request before this one. Where
    /// an attempt of this one has done it, its report is kept.
    async fn ask(&self, server: String) -> Result<(), Failure> {
        let entry = self.repository.carried_out(&self.key(&server)).await?;
        self.seen().server = server;
        let Some(entry) = entry else { return Ok(()) };
        let report = self.own(entry)?;
        self.seen().report = Some(report);
        Err(Failure::new(
            Reason::RestoreInProgress,
            "an attempt before this one has carried it out",
        ))
    }

    /// What an attempt before this one reported at its end, if that was found out.
    pub(super) fn report_before(&self) -> Option<RestoreReport> {
        self.seen().report.clone()
    }

    fn own(&self, entry: LedgerEntry) -> Result<RestoreReport, Failure> {
        let report = serde_json::from_value::<RestoreReport>(entry.report);
        if entry.request != self.uid {
            let whole = report.is_ok_and(|report| report.outcome == Outcome::Succeeded);
            let (reason, how) = match whole {
                true => (Reason::AlreadyCarriedOut, ""),
                false => (Reason::CarriedOutInPart, " in part"),
            };
            let message = format!(
                "{} was carried out{how} at {}, by an object with the UID {}: it asked for the same",
                entry.subject,
                entry.time.strftime("%FT%TZ"),
                entry.request
            );
            return Err(Failure::new(reason, message));
        }
        report.map_err(|error| {
            let message =
                format!("the restore was carried out, and its report cannot be read: {error}");
            Failure::new(Reason::RepositoryDamaged, message)
        })
    }

    /// Notes what was carried out, before anybody is told.
    pub(super) async fn note(
        &self,
        order: &Order<'_>,
        report: &RestoreReport,
    ) -> Result<(), Failure> {
        let subject = format!("{}/{}", self.request.namespace, self.request.name);
        let report = serde_json::to_value(report)
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        let key = self.key(&self.seen().server);
        let noting = self.repository.note_carried_out(&key, &self.uid, &subject, report);
        // The databases are in place: a run that is told to stop takes the time to say so.
        let noted = match with_grace(order.cancel, noting).await {
            Some(noted) => noted,
            None => {
                let message = "the run was told to stop before what it has done was noted";
                return Err(Failure::new(Reason::Interrupted, message));
            }
        };
        self.own(noted?).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use dbbackup_contract::ReplaceAction;
    use dbbackup_repository::{Encryption, OpenOptions};
    use jiff::Timestamp;

    use super::super::fixtures::Place;
    use super::super::restore::empty_report;
    use super::*;

    fn action(uid: &str, name: &str) -> RestoreAction {
        let json = serde_json::json!({
            "requestUid": uid,
            "snapshot": "abcd",
            "target": {"host": "db", "port": 5432, "credentials": {"username": {"literal": "u"}}},
            "once": {"namespace": "shop", "name": name, "specDigest": "sha256:1"},
        });
        let replace = ReplaceAction {
            keep: true,
            terminate_sessions: false,
            lock_timeout_seconds: 10,
            time: Timestamp::UNIX_EPOCH,
            is_continued: false,
        };
        RestoreAction { replace: Some(replace), ..serde_json::from_value(json).unwrap() }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_noted_is_told_to_the_same_object_and_refused_to_one_created_anew() {
        let place = Place::new().await;
        let (first, anew) = (action("uid-1", "back"), action("uid-2", "back"));
        let other = action("uid-3", "other");
        let once = |action| Once::of(action, &place.repository).unwrap().unwrap();
        assert_eq!(once(&first).mark(), once(&anew).mark());
        assert_ne!(once(&first).mark(), once(&other).mark());
        let asked = async |action, server: &str| {
            let once = once(action);
            (once.ask(server.to_owned()).await.map_err(|error| error.reason), once.report_before())
        };
        assert_eq!(asked(&first, "7").await, (Ok(()), None));
        let mut report = empty_report(Timestamp::UNIX_EPOCH);
        report.outcome = Outcome::PartiallyFailed;
        let noted = async |action, report: &RestoreReport| {
            let once = once(action);
            let _ = once.ask("7".to_owned()).await;
            place.order(async |order| once.note(order, report).await).await
        };
        noted(&first, &report).await.unwrap();

        assert_eq!(
            asked(&first, "7").await,
            (Err(Reason::RestoreInProgress), Some(report.clone()))
        );
        assert_eq!(asked(&other, "7").await, (Ok(()), None));
        assert_eq!(asked(&anew, "8").await, (Ok(()), None), "another server");
        assert_eq!(asked(&anew, "7").await, (Err(Reason::CarriedOutInPart), None));
        // Two at once: the second is told that it is not its own.
        assert_eq!(noted(&anew, &report).await.unwrap_err().reason, Reason::CarriedOutInPart);

        report.outcome = Outcome::Succeeded;
        noted(&other, &report).await.unwrap();
        let again = action("uid-4", "other");
        let refused = once(&again).ask("7".to_owned()).await.unwrap_err();
        assert_eq!(refused.reason, Reason::AlreadyCarriedOut);
        assert!(refused.message.starts_with("shop/other was carried out at "), "{refused}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_replaces_is_refused_where_it_cannot_be_noted_and_what_creates_needs_no_note() {
        let place = Place::new().await;
        let store = dbbackup_storage::VolumeStore::open(place.path(), Default::default());
        let store = std::sync::Arc::new(store.await.unwrap());
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let opened = Repository::open_with(store, &Encryption::None, options).await.unwrap();
        let mut action = action("uid-1", "back");
        let refused = Once::of(&action, &opened.repository).err().unwrap();
        assert_eq!(refused.reason, Reason::RepositoryReadOnly);
        assert!(refused.hint.contains("CreateNew"), "{refused}");
        action.replace = None;
        assert!(Once::of(&action, &opened.repository).unwrap().is_none());
    }
}
