//! The ledger: requests that were carried out once and must not be again, though somebody
//! creates them anew (`docs/format.md`, "Ledger").

use dbbackup_storage::collect_listing;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::envelope::Kind;
use crate::names::{LEDGER, base32};
use crate::repository::{Inner, Repository};
use crate::{Error, Result};

/// Longest report that is stored with an entry, in bytes of JSON.
const MAX_REPORT_BYTES: usize = 1024 * 1024;
/// Bytes of the keyed hash in a name.
const NAME_BYTES: usize = 16;

/// Name of a request in the ledger. It tells nobody without the repository's key what it
/// is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerKey(String);

impl LedgerKey {
    /// 26 characters of base32.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn object(&self) -> String {
        format!("{LEDGER}{}", self.0)
    }
}

/// A request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// The request's UID: one that is created anew has another.
    pub request: String,
    /// What it is called, for people: `NAMESPACE/NAME`.
    pub subject: String,
    /// When the entry was made: at the end of what was carried out.
    pub time: Timestamp,
    /// What was reported of it then.
    pub report: serde_json::Value,
}

impl Repository {
    /// The name of what was asked for in these words, of this server (its own identity), as long
    /// as the repository lives: not of the cluster, which may be a new one, nor of the object,
    /// which may be.
    #[must_use]
    pub fn ledger_key(
        &self,
        namespace: &str,
        name: &str,
        spec_digest: &str,
        server: &str,
    ) -> LedgerKey {
        let content = [namespace, name, spec_digest, server].join("\0");
        let mac = self.inner.keys.name_mac("ledger", content.as_bytes());
        LedgerKey(base32(&mac[..NAME_BYTES]))
    }

    /// What the ledger has of a request.
    ///
    /// # Errors
    /// `RepositoryDamaged` where its entry cannot be read: it may have been carried out.
    pub async fn carried_out(&self, key: &LedgerKey) -> Result<Option<LedgerEntry>> {
        self.inner.ledger_entry(&key.object()).await
    }

    /// Notes that a request was carried out. Whoever does it twice gets what was noted first.
    ///
    /// # Errors
    /// What the store says; `Misuse` where the report is too long.
    pub async fn note_carried_out(
        &self,
        key: &LedgerKey,
        request: &str,
        subject: &str,
        report: serde_json::Value,
    ) -> Result<LedgerEntry> {
        let inner = &self.inner;
        inner.may_write()?;
        let entry = LedgerEntry {
            request: request.to_owned(),
            subject: subject.to_owned(),
            time: inner.environment.now(),
            report,
        };
        let json = serde_json::to_vec(&entry).map_err(|error| Error::Misuse(error.to_string()))?;
        if json.len() > MAX_REPORT_BYTES {
            return Err(Error::Misuse(format!("{} bytes are no entry of a ledger", json.len())));
        }
        let name = key.object();
        if inner.put(Kind::Ledger, &name, &json).await?.created {
            return Ok(entry);
        }
        inner.ledger_entry(&name).await?.ok_or(Error::Missing(name))
    }
}

impl Inner {
    async fn ledger_entry(&self, name: &str) -> Result<Option<LedgerEntry>> {
        let Some(content) = self.find_content(Kind::Ledger, name).await? else { return Ok(None) };
        let entry = serde_json::from_slice(&content);
        entry.map(Some).map_err(|error| Error::damaged(name, error.to_string()))
    }

    /// What is wrong with entries of the ledger that cannot be read.
    pub(crate) async fn unreadable_ledger(&self) -> Result<Vec<Error>> {
        let mut unreadable = Vec::new();
        for object in collect_listing(self.store.list(LEDGER)).await? {
            match self.ledger_entry(&object.name).await {
                Ok(_) => {}
                Err(error @ (Error::Damaged { .. } | Error::VersionUnsupported(_))) => {
                    unreadable.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unreadable)
    }
}
