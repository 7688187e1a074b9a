//! The way to somebody who is told, from the API's words to the task's.

use dbbackup_contract::{EmailAccess, NotificationChannel, WebhookAccess, WebhookUrl};
use dbbackup_crds::{EmailSpec, NotificationSpec, SecretKeyRef, WebhookSpec};

use super::access::{Place, ca_file, credentials};
use super::mounts::Mounts;

/// How a notification of the schedule is sent. `None` where the spec names no way, which the
/// CRD refuses.
pub(crate) fn notification_channel(
    spec: &NotificationSpec,
    schedule: &str,
    mounts: &mut Mounts,
) -> Option<NotificationChannel> {
    let place = |way: &str| {
        Place::new(&format!("notifications[{}].{way}", spec.name), "BackupSchedule", schedule)
    };
    match (&spec.webhook, &spec.email) {
        (Some(webhook), None) => webhook_access(webhook, &place("webhook"), mounts),
        (None, Some(email)) => Some(email_access(email, &place("email"), mounts)),
        _ => None,
    }
}

fn webhook_access(
    webhook: &WebhookSpec,
    place: &Place,
    mounts: &mut Mounts,
) -> Option<NotificationChannel> {
    let mut secret = |field: &str, value: &Option<SecretKeyRef>| {
        let value = value.as_ref()?;
        Some(mounts.secret(&value.name, &value.key, place.field(field)))
    };
    let url = match (&webhook.url, secret("urlSecretRef", &webhook.url_secret_ref)) {
        (Some(url), None) => WebhookUrl::Literal(url.clone()),
        (None, Some(file)) => WebhookUrl::File(file),
        _ => return None,
    };
    Some(NotificationChannel::Webhook(WebhookAccess {
        url,
        format: webhook.format,
        authorization: secret("authorizationSecretRef", &webhook.authorization_secret_ref),
        signing_key: secret("signingKeySecretRef", &webhook.signing_key_secret_ref),
        ca: webhook.ca_ref.as_ref().map(|ca| ca_file(ca, place.field("caRef"), mounts)),
    }))
}

fn email_access(email: &EmailSpec, place: &Place, mounts: &mut Mounts) -> NotificationChannel {
    let named_by = || place.field("credentialsSecretRef");
    let secret = email.credentials_secret_ref.as_ref();
    NotificationChannel::Email(EmailAccess {
        host: email.host.clone(),
        port: email.port(),
        tls: email.tls,
        from: email.from.clone(),
        to: email.to.clone(),
        credentials: secret.map(|secret| credentials(secret, named_by, mounts)),
        ca: email.ca_ref.as_ref().map(|ca| ca_file(ca, place.field("caRef"), mounts)),
    })
}
