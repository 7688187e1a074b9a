//! What is said of a commit that a store or a stop cuts.

use std::time::Duration;

use dbbackup_contract::Initialize;
use dbbackup_repository::{Cutting, Encryption, OpenOptions};
use dbbackup_storage::{Effect, FaultyStore, MemoryStore, RetryPolicy, TimedStore};

use super::*;

/// A run that is about to commit to a store that will fail.
struct Run {
    faulty: Arc<FaultyStore>,
    repository: Repository,
    writer: SnapshotWriter,
    cancel: CancellationToken,
}

impl Run {
    /// A store that is silent for `silence` is given up.
    async fn begin(silence: Duration) -> Self {
        let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let inner = Arc::clone(&faulty);
        let store = TimedStore::open("the volume", silence, async { Ok(inner) }).await.unwrap();
        let retry =
            RetryPolicy { tries: 1, first_delay: Duration::ZERO, longest_delay: Duration::ZERO };
        let options =
            OpenOptions { initialize: Initialize::IfEmpty, retry, ..OpenOptions::default() };
        let opened = Repository::open_with(Arc::new(store), &Encryption::None, options);
        let repository = opened.await.unwrap().repository;
        let cancel = CancellationToken::new();
        let slot = "2026-11-20T01:15:00Z".parse().unwrap();
        let session =
            SessionOptions { cancel: cancel.clone(), ..SessionOptions::new("series", "run", slot) };
        let Begun::Started(writer) = repository.begin(session).await.unwrap() else { panic!() };
        let mut stream = writer.stream("data", Cutting::default()).await.unwrap();
        stream.write(bytes::Bytes::from_static(b"some rows")).await.unwrap();
        stream.finish().await.unwrap();
        Self { faulty, repository, writer, cancel }
    }

    /// Commits while the `at`-th write has `effect`. Gives the failure, and whether the
    /// snapshot is there nevertheless; `None` where there are not so many writes.
    async fn cut(self, at: u64, effect: Effect) -> Option<(Failure, bool)> {
        self.faulty.fail_at(at, effect);
        let info = CommitInfo::new("test", serde_json::json!({}), serde_json::json!({}));
        let done = committed(&self.cancel, self.writer, info).await;
        self.faulty.has_failed().then(|| self.faulty.revive())?;
        let there = self.repository.snapshots(None).await.unwrap().snapshots.len() == 1;
        Some((done.unwrap_err(), there))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_the_store_does_not_answer_for_is_not_called_a_failure() {
    for (effect, before, may_be_there) in [
        (Effect::NoAnswer, Reason::Stalled, false),
        (Effect::LostAcknowledgement, Reason::StorageUnavailable, true),
    ] {
        let mut said = Vec::new();
        for at in 1.. {
            let run = Run::begin(Duration::from_secs(1)).await;
            let Some(cut) = run.cut(at, effect).await else { break };
            said.push(cut);
        }
        // The manifest is written last. Before it nothing is committed, which is certain.
        let ((manifest, is_there), data) = said.split_last().unwrap();
        assert_eq!(manifest.reason, Reason::OutcomeUnknown, "{manifest}");
        assert_eq!(*is_there, may_be_there, "{manifest}");
        assert!(manifest.message.contains("is there is not known"), "{manifest}");
        assert!(!data.is_empty());
        assert!(data.iter().all(|(failure, there)| failure.reason == before && !there), "{data:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_manifest_is_written_leaves_the_outcome_unknown() {
    let mut said = Vec::new();
    for at in 1.. {
        let run = Run::begin(Duration::from_secs(600)).await;
        let (faulty, cancel) = (Arc::clone(&run.faulty), run.cancel.clone());
        let stopping = tokio::spawn(async move {
            while !faulty.has_failed() {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        });
        let cut = run.cut(at, Effect::NoAnswer).await;
        stopping.abort();
        let Some((failure, _)) = cut else { break };
        said.push(failure.reason);
    }
    let (manifest, data) = said.split_last().unwrap();
    assert_eq!(*manifest, Reason::OutcomeUnknown);
    assert!(!data.is_empty() && data.iter().all(|reason| *reason == Reason::Interrupted));
}
