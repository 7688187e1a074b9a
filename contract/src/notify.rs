//! Telling somebody how a backup ended: what is said, where to, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ByteCounts, CredentialFiles, DatabaseCount, Failure, Outcome, SecretFile};

/// Version of a [`Notice`] as it is sent. Fields may be added to it; what is there keeps its
/// meaning.
pub const NOTICE_VERSION: u32 = 1;

/// What somebody may want to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NotificationEvent {
    /// A backup has succeeded: each one.
    Succeeded,
    /// Some databases of a backup are missing.
    PartiallyFailed,
    /// A backup has failed.
    Failed,
    /// A backup has succeeded, and the one before it had not.
    Recovered,
}

impl NotificationEvent {
    /// How a backup ended of which this is told.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Succeeded | Self::Recovered => Outcome::Succeeded,
            Self::PartiallyFailed => Outcome::PartiallyFailed,
            Self::Failed => Outcome::Failed,
        }
    }
}

/// What a webhook is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WebhookFormat {
    /// All that is known, as JSON: docs/notifications.md.
    #[default]
    Generic,
    /// A text for people, `{"text": …}`: Slack, Mattermost, Rocket.Chat and Google Chat take it.
    Slack,
}

/// How a connection to a mail server is protected. Nothing less is ever accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SmtpTls {
    /// The connection becomes one of TLS before anything is said (STARTTLS); mostly at port 587.
    #[default]
    #[serde(rename = "StartTLS")]
    StartTls,
    /// TLS from the first byte; mostly at port 465.
    #[serde(rename = "TLS")]
    Tls,
    /// No TLS, and so no password.
    None,
}

/// What is told: how one backup ended. It holds no secret and no row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notice {
    /// [`NOTICE_VERSION`] of the writer.
    pub version: u32,
    /// The same however often it is sent: `BACKUP_UID-NOTIFICATION`.
    pub id: String,
    /// What happened.
    pub event: NotificationEvent,
    /// The cluster: UID of its namespace `kube-system`.
    pub cluster: String,
    /// Namespace of the objects.
    pub namespace: String,
    /// Name of the schedule.
    pub schedule: String,
    /// Which notification of the schedule it is.
    pub notification: String,
    /// The backup.
    pub backup: NoticeBackup,
    /// Why the backup did not do all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// When a backup of the schedule last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Timestamp>,
}

/// The backup that is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoticeBackup {
    /// Name of the `Backup`.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// How it ended.
    pub phase: Outcome,
    /// When it began, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    /// Name of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The snapshot, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// How many databases ended how, if any was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<DatabaseCount>,
    /// Bytes, if any were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteCounts>,
}

/// Tell somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotifyAction {
    /// What.
    pub notice: Notice,
    /// By which way.
    pub channel: NotificationChannel,
}

/// A way to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum NotificationChannel {
    /// A POST to an address.
    Webhook(WebhookAccess),
    /// A mail.
    Email(EmailAccess),
}

/// The address of a webhook. It may be a secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum WebhookUrl {
    /// It stands in a file.
    File(SecretFile),
    /// It is no secret.
    Literal(String),
}

/// How a webhook is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookAccess {
    /// Its address.
    pub url: WebhookUrl,
    /// What it is sent.
    #[serde(default)]
    pub format: WebhookFormat,
    /// The value of the header `Authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<SecretFile>,
    /// The key that signs what is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretFile>,
    /// The CA's certificates (PEM); the system's CAs where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretFile>,
}

/// How mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmailAccess {
    /// The mail server.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: SmtpTls,
    /// Who writes.
    pub from: String,
    /// Who is written to.
    pub to: Vec<String>,
    /// User name and password, where the server asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialFiles>,
    /// The CA's certificates (PEM); the system's CAs where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretFile>,
}

/// What came of telling somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifyReport {
    /// Whether it was taken.
    pub outcome: Outcome,
    /// When it was taken or refused.
    pub completion_time: Timestamp,
    /// Why it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}
