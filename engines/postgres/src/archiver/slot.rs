//! The slot of an archive, as the server has it.

use data_encoding::HEXLOWER;
use dbbackup_contract::{Failure, Reason};
use sha2::{Digest as _, Sha256};

use crate::connection::Session;
use crate::errors::query_failure;
use crate::lsn::Lsn;

/// The name of the slot of a series: what servers allow in one.
#[must_use]
pub fn slot_name(series: &str) -> String {
    format!("dbbackup_{}", HEXLOWER.encode(&Sha256::digest(series)[..8]))
}

/// A physical slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotState {
    /// From here on the log is kept for it; `None` where nothing is: it is new, or lost.
    pub(super) restart: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`; `None` where nothing is kept.
    pub(super) status: Option<String>,
}

/// Looks at a slot; `None` where there is none of this name.
///
/// # Errors
/// What the server says; that it is no physical one.
pub(super) async fn look(session: &Session, name: &str) -> Result<Option<SlotState>, Failure> {
    let doing = "looking at the replication slot";
    let sql = "SELECT slot_type::text, restart_lsn::text, wal_status::text \
               FROM pg_replication_slots WHERE slot_name = $1";
    let row = session.query_opt(sql, &[&name]).await;
    let Some(row) = row.map_err(|error| query_failure(&error, doing))? else { return Ok(None) };
    if row.get::<_, String>(0) != "physical" {
        let message = format!("the server has a slot {name} that is no physical one");
        return Err(Failure::new(Reason::InvalidSpec, message)
            .with_hint("Drop it, or name another series: the slot is named after it."));
    }
    let restart = row.get::<_, Option<String>>(1).and_then(|text| text.parse().ok());
    Ok(Some(SlotState { restart, status: row.get(2) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_named_as_servers_allow_it() {
        let (slot, other) = (slot_name("3f6c/shop/Nightly"), slot_name("3f6c/shop/nightly"));
        assert_eq!(slot.len(), 25);
        assert_ne!(slot, other);
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(slot.bytes().all(is_plain), "{slot}");
    }
}
