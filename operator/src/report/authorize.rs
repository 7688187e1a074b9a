//! Who may report for which object: token → pod → Job → object.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dbbackup_contract::REPORT_AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::names::is_object_name;

/// A runner that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Namespace of its pod, its Job and its object.
    pub namespace: String,
    /// Its pod.
    pub pod_name: String,
    /// UID of its pod.
    pub pod_uid: String,
    /// Its Job.
    pub job_name: String,
    /// Kind of the object that the Job belongs to.
    pub kind: String,
    /// Name of that object.
    pub name: String,
    /// UID of that object.
    pub uid: String,
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The token is not one for this channel, or not valid any more.
    #[error("the token is not valid for the audience {REPORT_AUDIENCE}")]
    Token,
    /// The token belongs to no pod of a Job of ours.
    #[error("{0}")]
    Stranger(&'static str),
    /// Too many callers are being looked at.
    #[error("too many callers at once: try again")]
    Busy,
    /// The API server cannot be asked.
    #[error("the API server cannot be asked: {0}")]
    Unavailable(#[from] kube::Error),
}

/// For how long a proof is remembered: a pod that is gone cannot use its token longer.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// For how long a refusal is: not longer than somebody may wonder who has mended its cause.
const REFUSED_FOR: Duration = Duration::from_secs(15);
/// Most proofs that are remembered, and most refusals.
const MOST: usize = 4096;
/// Most callers that the API server is asked about at once. Anybody may send tokens.
const AT_ONCE: usize = 8;
/// How long a caller waits for its turn: less than a runner waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks callers, and remembers them for a short while.
pub struct Gate {
    known: Remembered<Caller>,
    /// A stranger, if there is a text; else the token itself is not valid.
    refused: Remembered<Option<&'static str>>,
    turns: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            known: Remembered::new(KNOWN_FOR),
            refused: Remembered::new(REFUSED_FOR),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

impl Gate {
    /// Who the bearer of `token` is.
    ///
    /// # Errors
    /// It is nobody who may report.
    pub async fn check(&self, client: &Client, token: &str) -> Result<Caller, Refusal> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(answer) = self.remembered(&digest) {
            return answer;
        }
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Refusal::Busy) };
        // Another connection may have brought it meanwhile.
        if let Some(answer) = self.remembered(&digest) {
            return answer;
        }
        let answer = prove(client, token).await;
        match &answer {
            Ok(caller) => self.known.put(digest, caller.clone()),
            Err(Refusal::Token) => self.refused.put(digest, None),
            Err(Refusal::Stranger(text)) => self.refused.put(digest, Some(text)),
            Err(Refusal::Busy | Refusal::Unavailable(_)) => {}
        }
        answer
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Result<Caller, Refusal>> {
        let refused = |text: Option<_>| Err(text.map_or(Refusal::Token, Refusal::Stranger));
        self.known.get(digest).map(Ok).or_else(|| self.refused.get(digest).map(refused))
    }
}

/// What was found about tokens, by their digests. Refusals have a memory of their own: who
/// sends many bad tokens does not push out those who were let in.
struct Remembered<T> {
    period: Duration,
    entries: Mutex<HashMap<[u8; 32], (Instant, T)>>,
}

impl<T: Clone> Remembered<T> {
    fn new(period: Duration) -> Self {
        Self { period, entries: Mutex::default() }
    }

    fn get(&self, digest: &[u8; 32]) -> Option<T> {
        let entries = self.lock();
        let found = entries.get(digest).filter(|(since, _)| since.elapsed() < self.period);
        found.map(|(_, found)| found.clone())
    }

    fn put(&self, digest: [u8; 32], found: T) {
        let mut entries = self.lock();
        entries.retain(|_, (since, _)| since.elapsed() < self.period);
        if entries.len() < MOST {
            entries.insert(digest, (Instant::now(), found));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Instant, T)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn prove(client: &Client, token: &str) -> Result<Caller, Refusal> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: Some(vec![REPORT_AUDIENCE.to_owned()]),
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(client.clone());
    let reviewed = api.create(&PostParams::default(), &review).await?;
    let (namespace, pod_name, pod_uid) = bearer(&reviewed).ok_or(Refusal::Token)?;

    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let stranger = Refusal::Stranger;
    let pod = pods.get_opt(&pod_name).await?.ok_or_else(|| stranger("the pod is gone"))?;
    if pod.uid().as_deref() != Some(&pod_uid) {
        return Err(stranger("another pod has this name now"));
    }
    let job_owner = controller(pod.owner_references())
        .filter(|owner| owner.kind == "Job" && owner.api_version.starts_with("batch/"))
        .filter(|owner| is_object_name(&owner.name))
        .ok_or_else(|| stranger("the pod belongs to no Job"))?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let job = jobs.get_opt(&job_owner.name).await?.ok_or_else(|| stranger("the Job is gone"))?;
    if job.uid().as_deref() != Some(&job_owner.uid) {
        return Err(stranger("another Job has this name now"));
    }
    let group = format!("{}/", dbbackup_crds::GROUP);
    let subject = controller(job.owner_references())
        .filter(|owner| owner.api_version.starts_with(&group) && is_object_name(&owner.name))
        .ok_or_else(|| stranger("the Job belongs to no object of dbbackup"))?;
    Ok(Caller {
        namespace,
        pod_name,
        pod_uid,
        job_name: job_owner.name.clone(),
        kind: subject.kind.clone(),
        name: subject.name.clone(),
        uid: subject.uid.clone(),
    })
}

fn controller(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Namespace, name and UID of the pod that a token is bound to.
fn bearer(review: &TokenReview) -> Option<(String, String, String)> {
    let status = review.status.as_ref()?;
    let for_us = status.audiences.as_ref()?.iter().any(|audience| audience == REPORT_AUDIENCE);
    if status.authenticated != Some(true) || !for_us {
        return None;
    }
    let user = status.user.as_ref()?;
    let mut parts = user.username.as_deref()?.strip_prefix("system:serviceaccount:")?.split(':');
    let namespace = parts.next()?.to_owned();
    let extra = user.extra.as_ref()?;
    let one = |key: &str| extra.get(key)?.first().cloned();
    Some((
        namespace,
        one("authentication.kubernetes.io/pod-name")?,
        one("authentication.kubernetes.io/pod-uid")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join;
    use http::{Request, Response};
    use kube::client::Body;

    fn review(change: impl FnOnce(&mut serde_json::Value)) -> TokenReview {
        let mut json = serde_json::json!({
            "spec": {},
            "status": {
                "authenticated": true,
                "audiences": ["dbbackup.dev"],
                "user": {
                    "username": "system:serviceaccount:shop:default",
                    "extra": {
                        "authentication.kubernetes.io/pod-name": ["p"],
                        "authentication.kubernetes.io/pod-uid": ["u"],
                    },
                },
            },
        });
        change(&mut json);
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_token_counts_only_when_it_is_valid_for_us_and_bound_to_a_pod() {
        let good = bearer(&review(|_| ()));
        assert_eq!(good, Some(("shop".into(), "p".into(), "u".into())));
        let changes: [fn(&mut serde_json::Value); 4] = [
            |review| review["status"]["authenticated"] = false.into(),
            |review| review["status"]["audiences"] = serde_json::json!(["https://kubernetes"]),
            |review| review["status"]["user"]["extra"] = serde_json::json!({}),
            |review| review["status"]["user"]["username"] = "alice".into(),
        ];
        for change in changes {
            assert_eq!(bearer(&review(change)), None);
        }
    }

    #[tokio::test]
    async fn many_tokens_at_once_are_few_questions_at_once() {
        let under_way = Arc::new(AtomicUsize::new(0));
        let released = Arc::new(Semaphore::new(0));
        let (counted, gate) = (Arc::clone(&under_way), Arc::clone(&released));
        let api = tower::service_fn(move |_: Request<Body>| {
            let (counted, gate) = (Arc::clone(&counted), Arc::clone(&gate));
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                counted.fetch_sub(1, Ordering::SeqCst);
                let json = serde_json::to_vec(&TokenReview::default()).unwrap();
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(json)))
            }
        });
        let client = Client::new(api, "default");
        let callers = Gate::default();
        let tokens: Vec<String> = (0..3 * AT_ONCE).map(|n| format!("token-{n}")).collect();
        let checks =
            futures::future::join_all(tokens.iter().map(|token| callers.check(&client, token)));
        let most = async {
            // One thread: each of the checks has come as far as it can by then.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let most = under_way.load(Ordering::SeqCst);
            released.add_permits(tokens.len());
            most
        };
        let (answers, most) = join(checks, most).await;
        assert_eq!(most, AT_ONCE);
        assert!(answers.iter().all(|answer| matches!(answer, Err(Refusal::Token))));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let remembered = Remembered::new(KNOWN_FOR);
        let digest = |n: usize| <[u8; 32]>::from(Sha256::digest(n.to_be_bytes()));
        (0..MOST + 10).for_each(|n| remembered.put(digest(n), n));
        assert_eq!(remembered.lock().len(), MOST);
        assert_eq!(remembered.get(&digest(7)), Some(7));
        let forgetful = Remembered::new(Duration::ZERO);
        forgetful.put(digest(1), 1);
        assert_eq!(forgetful.get(&digest(1)), None);
    }
}
