//! Telling somebody how the backups of a schedule end: what is wanted, and what came of it.

use dbbackup_contract::{Failure, NotificationEvent, SmtpTls, WebhookFormat};
use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::source::{name_or_address, no_port, no_url};
use crate::{CaRef, CredentialsRef, RawReport, SecretKeyRef};

/// Most notifications of a schedule.
pub const MAX_NOTIFICATIONS: usize = 8;

/// What an address of mail looks like, as browsers have it, without a quote.
const ADDRESS: &str = r"^[A-Za-z0-9.!#$%&*+/=?^_{|}~-]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$";

/// Somebody who is told how backups end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.webhook) != has(self.email)").message("say exactly one of webhook and email; each further way is a notification of its own"))]
pub struct NotificationSpec {
    /// A name for it, such as ops: statuses use it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    // Not `on`: to YAML 1.1, and so to kubectl, that word is a Boolean.
    /// What is told: Failed, PartiallyFailed, Recovered (the first success after one of the two), Succeeded (each success). Of backups that end alike one after the other, failures are told of at the first and then once a day.
    #[serde(default = "trouble_and_its_end")]
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<NotificationEvent>,
    /// By a POST to an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// By mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailSpec>,
}

/// A webhook. A Job in this namespace calls it: never the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.urlSecretRef)").message("say exactly one of url and urlSecretRef"))]
pub struct WebhookSpec {
    /// Its address, where that is no secret. Those of chats are: whoever knows them can write there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(r"self.matches('^https?://[^\\s/?#@]+(/[^\\s?#@]*)?$')").message("url has http:// or https://, a host and a path, and no more: an address with a user or a query has a secret in it, and stands in one itself, urlSecretRef"))]
    pub url: Option<String>,
    /// The secret that holds its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// What it is sent. Generic: all that is known, as JSON. Slack: a text that Slack, Mattermost, Rocket.Chat and Google Chat show.
    #[serde(default)]
    pub format: WebhookFormat,
    /// A secret with the value of the header Authorization, whole: Bearer and a token, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_secret_ref: Option<SecretKeyRef>,
    /// A secret with a key of 16 bytes or more, as it stands or in base64 after whsec_: what is sent is signed with it, as Standard Webhooks says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key_secret_ref: Option<SecretKeyRef>,
    /// The only authorities that may sign the receiver's certificate. Left out, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
}

/// Mail. A Job in this namespace sends it: never the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.tls != 'None' || !has(self.credentialsSecretRef)").message("no password is sent over a connection without TLS: leave tls: None or credentialsSecretRef out"))]
pub struct EmailSpec {
    /// Host name or address of the mail server.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = no_url(), validation = no_port(), validation = name_or_address())]
    pub host: String,
    /// Its TCP port. Left out: 587 with StartTLS, 465 with TLS, 25 with None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// How the connection is protected. With StartTLS and TLS the server must prove its name by a trusted certificate; nothing less is ever accepted.
    #[serde(default)]
    pub tls: SmtpTls,
    /// Who writes: an address.
    #[schemars(length(min = 3, max = 254))]
    #[x_kube(validation = Rule::new(format!("self.matches('{ADDRESS}')")).message("from is an address alone, such as dbbackup@example.com, without a name and brackets"))]
    pub from: String,
    /// Who is written to: addresses. One that the server refuses keeps the mail from all.
    #[schemars(length(min = 1, max = 16), inner(length(min = 3, max = 254)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = Rule::new(format!("self.all(to, to.matches('{ADDRESS}'))")).message("to has addresses alone, such as ops@example.com, without names and brackets"))]
    pub to: Vec<String>,
    /// The secret with user name and password (keys: username, password), where the server asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsRef>,
    /// The only authorities that may sign the server's certificate. Left out, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
}

impl EmailSpec {
    /// The port, said or usual.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            SmtpTls::StartTls => 587,
            SmtpTls::Tls => 465,
            SmtpTls::None => 25,
        })
    }
}

fn trouble_and_its_end() -> Vec<NotificationEvent> {
    use NotificationEvent::{Failed, PartiallyFailed, Recovered};
    vec![Failed, PartiallyFailed, Recovered]
}

/// Where a notification stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NotificationPhase {
    /// It waits: for its turn, or for the next attempt.
    #[default]
    Pending,
    /// Its Job runs.
    Running,
    /// The receiver has taken it.
    Sent,
    /// It was given up.
    Failed,
}

impl NotificationPhase {
    /// Whether nothing is left to be done.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Sent | Self::Failed)
    }
}

/// What came of telling somebody of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationStatus {
    /// Its name, as notifications of the schedule has it.
    #[schemars(length(max = 63))]
    pub name: String,
    /// What is told.
    pub event: NotificationEvent,
    /// Where it stands.
    #[serde(default)]
    pub phase: NotificationPhase,
    /// When it was sent or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// How often it was begun: each Job counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Timestamp>,
    /// The Job that was begun last. Its logs stay for an hour after the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What the runner said last, until it is worked in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<RawReport>,
}

impl NotificationStatus {
    /// The entry of one who is to be told of `event`.
    #[must_use]
    pub fn pending(name: &str, event: NotificationEvent) -> Self {
        Self {
            name: name.to_owned(),
            event,
            phase: NotificationPhase::Pending,
            time: None,
            attempts: None,
            next_attempt_time: None,
            job_name: None,
            error: None,
            report: None,
        }
    }
}
