//! Requests that are carried out once, whoever creates their object anew: by the ledger of the
//! repository (`docs/format.md`, "Ledger").

use dbbackup_contract::{Failure, Reason, RequestKey, RestoreAction, RestoreReport};
use dbbackup_repository::{LedgerEntry, LedgerKey, Repository};

use super::Order;
use crate::patience::with_grace;

/// What is carried out once, by the repository's ledger.
pub(super) struct Once<'a> {
    repository: &'a Repository,
    request: &'a RequestKey,
    uid: &'a str,
    key: LedgerKey,
}

impl<'a> Once<'a> {
    /// Where databases are replaced, and the action says whose request it is.
    pub(super) fn of(
        action: &'a RestoreAction,
        repository: &'a Repository,
    ) -> Result<Option<Self>, Failure> {
        let (Some(request), Some(_)) = (&action.once, &action.replace) else { return Ok(None) };
        repository.may_write().map_err(|error| {
            Failure::from(error).with_hint(
                "A restore that replaces databases is noted in its repository. Use CreateNew, or \
                 restore from a copy in a repository that may be written to.",
            )
        })?;
        let RequestKey { namespace, name, spec_digest } = request;
        let key = repository.ledger_key(namespace, name, spec_digest);
        Ok(Some(Self { repository, request, uid: &action.request_uid, key }))
    }

    /// What the ledger calls it: the same for an object that is created anew.
    pub(super) fn name(&self) -> &str {
        self.key.as_str()
    }

    /// What an attempt before this one reported at its end, if there was one.
    ///
    /// # Errors
    /// `AlreadyCarriedOut` where it was a request before this one.
    pub(super) async fn report_of_this_one(&self) -> Result<Option<RestoreReport>, Failure> {
        let Some(entry) = self.repository.carried_out(&self.key).await? else { return Ok(None) };
        self.own(entry).map(Some)
    }

    fn own(&self, entry: LedgerEntry) -> Result<RestoreReport, Failure> {
        if entry.request != self.uid {
            let message = format!(
                "{} was carried out at {}, by an object with the UID {}: it asked for the same",
                entry.subject, entry.time, entry.request
            );
            return Err(Failure::new(Reason::AlreadyCarriedOut, message));
        }
        serde_json::from_value(entry.report).map_err(|error| {
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
        let noting = self.repository.note_carried_out(&self.key, self.uid, &subject, report);
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
        assert_eq!(once(&first).name(), once(&anew).name());
        assert!(once(&first).report_of_this_one().await.unwrap().is_none());
        let report = empty_report(Timestamp::UNIX_EPOCH);
        place.order(async |order| once(&first).note(order, &report).await.unwrap()).await;

        assert_eq!(once(&first).report_of_this_one().await.unwrap(), Some(report.clone()));
        assert!(once(&other).report_of_this_one().await.unwrap().is_none());
        let refused = once(&anew).report_of_this_one().await.unwrap_err();
        assert_eq!(refused.reason, Reason::AlreadyCarriedOut);
        assert!(refused.message.starts_with("shop/back was carried out at "), "{refused}");
        // Two at once: the second is told that it is not its own.
        let late = place.order(async |order| once(&anew).note(order, &report).await).await;
        assert_eq!(late.unwrap_err().reason, Reason::AlreadyCarriedOut);
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
