//! Who may report for which object: token → pod → Job → object.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dbbackup_contract::REPORT_AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use sha2::{Digest, Sha256};

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
    Stranger(String),
    /// The API server cannot be asked.
    #[error("the API server cannot be asked: {0}")]
    Unavailable(#[from] kube::Error),
}

/// For how long a proof is remembered: a pod that is gone cannot use its token longer.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Most proofs that are remembered.
const MOST: usize = 4096;

/// Checks callers, and remembers them for a short while.
#[derive(Default)]
pub struct Gate {
    known: Mutex<HashMap<[u8; 32], (Instant, Caller)>>,
}

impl Gate {
    /// Who the bearer of `token` is.
    ///
    /// # Errors
    /// It is nobody who may report.
    pub async fn check(&self, client: &Client, token: &str) -> Result<Caller, Refusal> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
            if let Some((_, caller)) = known.get(&digest) {
                return Ok(caller.clone());
            }
        }
        let caller = prove(client, token).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST {
            known.insert(digest, (Instant::now(), caller.clone()));
        }
        Ok(caller)
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
    let stranger = |text: &str| Refusal::Stranger(text.to_owned());
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
}
