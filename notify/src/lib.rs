//! Tells somebody how a backup ended, by a webhook or by mail. One message, one try: who
//! calls decides about another one.
//!
//! What goes in is a [`Notice`] and a [`Destination`] whose secrets were read already. What
//! comes out is nothing, or a failure that holds no secret: an address is told by its host
//! alone, and an answer only where it repeats nothing that was sent in confidence.

mod answer;
mod email;
mod signature;
mod trust;
mod webhook;
mod words;

use std::time::Duration;

use dbbackup_contract::{Failure, Notice, Reason};

pub use email::{Credentials, Email};
pub use webhook::Webhook;

/// How long telling somebody takes at most, from the first packet to the last.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Where a message goes.
#[derive(Debug)]
pub enum Destination {
    /// A POST to an address.
    Webhook(Webhook),
    /// A mail.
    Email(Email),
}

impl Destination {
    /// Sends the notice, once, within `limit`.
    ///
    /// # Errors
    /// `NotificationFailed` where another try may help, `NotificationRefused` where it does
    /// not, `InvalidSpec` where address, key or CA cannot be read.
    pub async fn send(&self, notice: &Notice, limit: Duration) -> Result<(), Failure> {
        match self {
            Self::Webhook(webhook) => {
                let prepared = webhook.prepare(notice)?;
                within(limit, prepared.who().to_owned(), prepared.send()).await
            }
            Self::Email(email) => {
                let prepared = email.prepare(notice)?;
                within(limit, prepared.who().to_owned(), prepared.send()).await
            }
        }
    }
}

/// Waits for `who` until the limit.
async fn within(
    limit: Duration,
    who: String,
    sending: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::time::timeout(limit, sending).await.unwrap_or_else(|_| {
        let message = format!("{who} has not answered within {} seconds", limit.as_secs());
        Err(Failure::new(Reason::NotificationFailed, message))
    })
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Reason::InvalidSpec, message)
}
