//! Messages to receivers that run: a server of HTTP, a server of mail, and some that misbehave.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../storage/clouds/tests/clouds/authority.rs"]
mod authority;
mod mail;
mod mail_server;
mod receiver;
mod scripted;
mod webhooks;

use std::time::Duration;

use dbbackup_contract::{Failure, Notice, Reason, SecretString};
use dbbackup_notify::Destination;

/// Longer than any of them takes that answers at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn notice() -> Notice {
    let json = serde_json::json!({
        "version": 1, "id": "5d0c-ops", "event": "Failed", "cluster": "3f6c",
        "namespace": "shop", "schedule": "nightly", "notification": "ops",
        "backup": {"name": "nightly-29391435", "uid": "5d0c", "phase": "Failed",
            "startTime": "2026-11-20T01:15:00Z", "completionTime": "2026-11-20T01:15:09Z",
            "repository": "main"},
        "lastSuccessfulTime": "2026-11-19T01:17:32Z",
    });
    let message = "nothing answers at größe:5432\r\nBcc: all@example.com\r\n.\r\nQUIT";
    let error = Failure::new(Reason::ServerUnreachable, message);
    Notice { error: Some(error), ..serde_json::from_value(json).unwrap() }
}

fn secret(text: &str) -> SecretString {
    SecretString::new(text.to_owned())
}

async fn sent(to: &Destination) -> Result<(), Failure> {
    to.send(&notice(), PATIENCE).await
}
