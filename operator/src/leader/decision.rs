//! What a replica does about the Lease: a pure function.

use std::time::Duration;

/// What a replica knows of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Who holds it; `None` where the Lease does not exist, empty where it was released.
    pub holder: Option<&'a str>,
    /// For how long this replica has seen no change of it, by its own clock.
    pub unchanged_for: Duration,
    /// For how long the holder may be silent, as the Lease itself says.
    pub duration: Duration,
}

/// What a replica does about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Create it.
    Create,
    /// Take it: it was released, or its holder was silent for too long.
    Take,
    /// Renew it: it is ours.
    Renew,
    /// Leave it: another replica leads.
    Wait,
}

/// Decides what `me` does.
///
/// The clocks of two machines are never compared: a holder is silent when *we*
/// have seen no renewal for as long as it promised one.
#[must_use]
pub fn decide(seen: &Seen<'_>, me: &str) -> Decision {
    match seen.holder {
        None => Decision::Create,
        Some("") => Decision::Take,
        Some(holder) if holder == me => Decision::Renew,
        Some(_) if seen.unchanged_for > seen.duration => Decision::Take,
        Some(_) => Decision::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        let seconds = Duration::from_secs;
        for (holder, unchanged, expected) in [
            (None, 0, Decision::Create),
            (Some(""), 0, Decision::Take),
            (Some("me"), 0, Decision::Renew),
            (Some("me"), 99, Decision::Renew),
            (Some("other"), 0, Decision::Wait),
            (Some("other"), 15, Decision::Wait),
            (Some("other"), 16, Decision::Take),
        ] {
            let seen = Seen { holder, unchanged_for: seconds(unchanged), duration: seconds(15) };
            assert_eq!(decide(&seen, "me"), expected, "{seen:?}");
        }
    }
}
