//! Packs that the collector is about to delete: absent for every new recipe
//! (`docs/format.md`, "The life of a run", W2).

use std::collections::HashSet;

use dbbackup_storage::collect_listing;
use serde::{Deserialize, Serialize};

use crate::envelope::Kind;
use crate::names::{CONDEMNED, VERDICT};
use crate::repository::Inner;
use crate::{Error, Result};

#[derive(Debug, Serialize, Deserialize)]
struct CondemnedJson {
    packs: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VerdictJson {
    #[serde(default)]
    keep: Vec<String>,
}

impl Inner {
    /// Last parts of the names of all packs that are absent for a writer whose
    /// session exists already.
    pub(crate) async fn absent_packs(&self) -> Result<HashSet<String>> {
        let mut absent = HashSet::new();
        for object in collect_listing(self.store.list(CONDEMNED)).await? {
            // A condemn that went since the listing was carried out or dropped.
            let condemned: Option<CondemnedJson> =
                self.read_json(Kind::Condemned, &object.name).await?;
            let Some(CondemnedJson { packs }) = condemned else { continue };
            let number = object.name.strip_prefix(CONDEMNED).unwrap_or_default();
            let verdict: Option<VerdictJson> =
                self.read_json(Kind::Verdict, &format!("{VERDICT}{number}")).await?;
            let kept: HashSet<String> =
                verdict.map(|verdict| verdict.keep.into_iter().collect()).unwrap_or_default();
            absent.extend(packs.into_iter().filter(|pack| !kept.contains(pack)));
        }
        Ok(absent)
    }

    async fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        kind: Kind,
        name: &str,
    ) -> Result<Option<T>> {
        let Some(content) = self.find_content(kind, name).await? else { return Ok(None) };
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| Error::damaged(name, error.to_string()))
    }

    /// Plants a condemn as the collector will write it.
    #[cfg(test)]
    pub(crate) async fn condemn(&self, n: u32, packs: Vec<String>) -> Result<()> {
        let json = serde_json::to_vec(&CondemnedJson { packs })
            .map_err(|error| Error::System(error.to_string()))?;
        self.put(Kind::Condemned, &format!("{CONDEMNED}{n}"), &json).await?;
        Ok(())
    }

    /// Plants a verdict as the collector will write it.
    #[cfg(test)]
    pub(crate) async fn pardon(&self, n: u32, keep: Vec<String>) -> Result<()> {
        let json = serde_json::to_vec(&VerdictJson { keep })
            .map_err(|error| Error::System(error.to_string()))?;
        self.put(Kind::Verdict, &format!("{VERDICT}{n}"), &json).await?;
        Ok(())
    }
}
