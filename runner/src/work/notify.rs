//! Telling somebody how a backup ended: the secrets are read here, the crate
//! `dbbackup-notify` sends.

use dbbackup_contract::{
    EmailAccess, Failure, NotificationChannel, NotifyAction, NotifyReport, Outcome, Reason,
    SecretFile, SecretString, UserName, WebhookAccess, WebhookUrl,
};
use dbbackup_engine::read_secret;
use dbbackup_notify::{Credentials, Destination, Email, LIMIT, Webhook};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::patience::unless_stopped;

/// Tells; a failure is in the report.
pub(crate) async fn notify(action: &NotifyAction, cancel: &CancellationToken) -> NotifyReport {
    let telling = async { destination(&action.channel)?.send(&action.notice, LIMIT).await };
    let error = unless_stopped(cancel, telling).await.err();
    let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Succeeded };
    NotifyReport { outcome, completion_time: Timestamp::now(), error }
}

fn destination(channel: &NotificationChannel) -> Result<Destination, Failure> {
    Ok(match channel {
        NotificationChannel::Webhook(access) => Destination::Webhook(webhook(access)?),
        NotificationChannel::Email(access) => Destination::Email(email(access)?),
    })
}

fn webhook(access: &WebhookAccess) -> Result<Webhook, Failure> {
    Ok(Webhook {
        url: match &access.url {
            WebhookUrl::File(file) => text(file)?,
            WebhookUrl::Literal(url) => SecretString::new(url.clone()),
        },
        format: access.format,
        authorization: access.authorization.as_ref().map(text).transpose()?,
        signing_key: access.signing_key.as_ref().map(text).transpose()?,
        ca: ca(access.ca.as_ref())?,
    })
}

fn email(access: &EmailAccess) -> Result<Email, Failure> {
    let credentials = match &access.credentials {
        None => None,
        Some(files) => Some(Credentials {
            username: match &files.username {
                UserName::File(file) => text(file)?,
                UserName::Literal(name) => SecretString::new(name.clone()),
            },
            password: files.password.as_ref().map(text).transpose()?.ok_or_else(|| {
                Failure::new(Reason::TaskInvalid, "the task names a user and no password")
            })?,
        }),
    };
    Ok(Email {
        host: access.host.clone(),
        port: access.port,
        tls: access.tls,
        from: access.from.clone(),
        to: access.to.clone(),
        credentials,
        ca: ca(access.ca.as_ref())?,
    })
}

/// A secret of one line. Editors end it by a line break.
fn text(file: &SecretFile) -> Result<SecretString, Failure> {
    let bytes = read_secret(file)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::new(Reason::InvalidSpec, format!("{} is not UTF-8", file.described()))
    })?;
    Ok(SecretString::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn ca(file: Option<&SecretFile>) -> Result<Option<Vec<u8>>, Failure> {
    file.map(|file| read_secret(file).map(|pem| pem.to_vec())).transpose()
}
