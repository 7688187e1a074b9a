//! Whether a connection failed because the receiver did not prove who it is.

use std::error::Error;

use dbbackup_contract::{Failure, Reason};

/// The fault of TLS behind an error, if there is one. Another try does not help then.
pub(crate) fn tls_fault<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<rustls::Error>() {
            return Some(fault);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The failure of a receiver that did not prove who it is.
pub(crate) fn unproved(who: &str, fault: &rustls::Error) -> Failure {
    let message = format!("{who} does not prove who it is: {fault}");
    Failure::new(Reason::NotificationRefused, message).with_hint(
        "Name the CA that signed its certificate with caRef, and the host as the certificate does.",
    )
}
