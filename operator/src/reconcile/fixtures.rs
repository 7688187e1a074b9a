//! Objects for the tests of all reconcilers.

use dbbackup_contract::ReportEndpoint;
use dbbackup_crds::{
    Backup, BackupRepository, PitrRestore, ResolvedBackup, RestoreRequest, TargetSpec,
};
use serde_json::{Value, json};

use crate::context::{Identity, Surroundings};
use crate::job::RunnerPod;

pub(crate) fn surroundings() -> Surroundings {
    Surroundings {
        cluster: "3f6c".into(),
        runner: RunnerPod {
            image: "runner:1".into(),
            pull_policy: "IfNotPresent".into(),
            pod_security_context: crate::config::pod_security_context(
                crate::config::POD_SECURITY_CONTEXT,
            )
            .unwrap(),
        },
        endpoint: ReportEndpoint {
            url: "https://dbbackup.dbbackup.svc:8443/v1/report".into(),
            ca_pem: "-----BEGIN CERTIFICATE-----".into(),
        },
    }
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity { namespace: "shop".into(), name: name.into(), uid: format!("uid-of-{name}") }
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "generation": 1},
    })
}

pub(crate) fn repository() -> BackupRepository {
    let mut object = object(
        "BackupRepository",
        "main",
        json!({
            "storage": {"volume": {"claimName": "backups", "path": "dbbackup"}},
            "encryption": {"keys": [
                {"name": "new", "keySecretRef": {"name": "backup-key-2026"}},
                {"name": "old", "passphraseSecretRef": {"name": "backup-key"}},
            ]},
        }),
    );
    object["status"] = json!({"id": "5d0c0f4e7a1b2c3d"});
    serde_json::from_value(object).unwrap()
}

/// Where copies go.
pub(crate) fn second_repository() -> BackupRepository {
    let mut object = object(
        "BackupRepository",
        "second",
        json!({
            "storage": {"volume": {"claimName": "far-away", "path": "copies"}},
            "encryption": {"keys": [
                {"name": "only", "passphraseSecretRef": {"name": "second-key"}},
            ]},
            "bandwidth": {"upload": "10Mi"},
        }),
    );
    object["status"] = json!({"id": "77aa0f4e7a1b2c3d"});
    serde_json::from_value(object).unwrap()
}

pub(crate) fn backup() -> Backup {
    let spec = json!({"scheduleRef": {"name": "shop-nightly"}});
    serde_json::from_value(object("Backup", "shop-nightly-29391435", spec)).unwrap()
}

/// A run with everything that `hooks`, `job` and `tls` know.
pub(crate) fn resolved_backup() -> ResolvedBackup {
    serde_json::from_value(json!({
        "repositoryRef": {"name": "main"},
        "schedule": "shop-nightly",
        "slotTime": "2026-11-20T01:15:00Z",
        "source": {"postgresql": {
            "host": "shop-db.shop.svc",
            "databases": {"include": ["shop*"], "exclude": ["*_tmp"]},
            "credentialsSecretRef": {"name": "shop-db", "keys": {"username": "user"}},
            "tls": {
                "mode": "VerifyFull",
                "caRef": {"kind": "ConfigMap", "name": "corporate-ca"},
                "clientCertSecretRef": {"name": "shop-db-client"},
            },
        }},
        "hooks": {
            "credentialsSecretRef": {"name": "shop-db-writer"},
            "before": [{"name": "pause", "database": "shop", "sql": "select pause()"}],
            "after": [{"name": "resume", "database": "shop", "sql": "select resume()",
                "timeout": "5m", "when": "OnFailure"}],
        },
        "job": {
            "podSecurityContext": {"runAsUser": 1000, "supplementalGroups": [5000]},
            "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "backup", "operator": "Exists"}],
            "serviceAccountName": "shop-backup",
            "imagePullSecrets": [{"name": "registry"}],
            "startTimeout": "5m",
            "stallTimeout": "90s",
        },
    }))
    .unwrap()
}

pub(crate) fn target() -> TargetSpec {
    let source = resolved_backup().source.postgresql.unwrap();
    TargetSpec { postgresql: Some(source.as_target()) }
}

pub(crate) fn request() -> RestoreRequest {
    let spec = json!({
        "from": {"latest": {"scheduleRef": {"name": "shop-nightly"}, "before": "2026-11-20T08:00:00Z"}},
        "databases": [{"name": "shop", "as": "shop_on_friday"}, {"name": "crm"}],
        "globals": "Merge",
    });
    serde_json::from_value(object("RestoreRequest", "shop-look", spec)).unwrap()
}

/// A recovery onto a claim that is made.
pub(crate) fn recovery() -> PitrRestore {
    let spec = json!({
        "from": {"scheduleRef": {"name": "shop"}},
        "recoveryTarget": {"time": "2026-11-20T14:37:00.250+01:00", "inclusive": false},
        "image": "postgres:17",
        "to": {"volumeClaim": {"template": {"storageClassName": "fast", "size": "50Gi"}}},
    });
    serde_json::from_value(object("PitrRestore", "shop-1437", spec)).unwrap()
}

/// A Job, and its task as a tree instead of a text, for a snapshot.
pub(crate) fn readable(job: &k8s_openapi::api::batch::v1::Job) -> Value {
    let mut job = serde_json::to_value(job).unwrap();
    let annotation =
        job.pointer_mut("/spec/template/metadata/annotations/dbbackup.dev~1task").unwrap();
    *annotation = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
    job
}
