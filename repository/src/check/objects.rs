//! Everything that is listed: configs, key slots, the collector's notes, and what
//! does not belong here.

use futures::StreamExt as _;

use super::{Check, unless_unavailable};
use crate::config::{ConfigObject, config_number};
use crate::envelope::Kind;
use crate::key_slot::{Slot, SlotId};
use crate::names::{
    BLOCKERS, CONDEMNED, CONFIG, KEYS, MARKS, META, PACKS, PartName, SESSIONS, SNAPSHOTS,
    SnapshotId, VERDICT, WRITTEN_OFF, is_ours, parse_number,
};
use crate::{Error, Result};

const FOREIGN: &str = "no object of a repository";

impl Check<'_> {
    /// Looks at every object of the listing; content is read of those that are few.
    pub(super) async fn look_at_objects(&mut self) -> Result<()> {
        let inner = self.inner;
        let mut listing = inner.store.list("");
        while let Some(object) = listing.next().await {
            let object = object?;
            let (name, size) = (&object.name[..], object.size);
            if let Some(rest) = name.strip_prefix(PACKS) {
                self.found_part(name, PACKS, rest, size);
            } else if let Some(rest) = name.strip_prefix(META) {
                self.found_part(name, META, rest, size);
            } else if name.starts_with(CONFIG) {
                self.look_at_config(name).await?;
            } else if name.starts_with(KEYS) {
                self.look_at_slot(name).await?;
            } else if name.starts_with(CONDEMNED) {
                self.look_at_note(Kind::Condemned, name, CONDEMNED).await?;
            } else if name.starts_with(VERDICT) {
                self.look_at_note(Kind::Verdict, name, VERDICT).await?;
            } else if name.starts_with(BLOCKERS) {
                self.look_at_note(Kind::Blockers, name, BLOCKERS).await?;
            } else if name.starts_with(MARKS) {
                self.look_at_note(Kind::Marks, name, MARKS).await?;
            } else if !self.has_a_known_name(name) {
                self.report.note(name, FOREIGN);
            }
        }
        Ok(())
    }

    /// A pack or meta object: its size is kept for later.
    fn found_part(&mut self, name: &str, folder: &str, rest: &str, size: u64) {
        let last = rest.split_once('/').map_or(rest, |(_, last)| last);
        let part = last.rsplit_once('-').and_then(|(session, n)| {
            SnapshotId::parse(session).ok()?;
            Some(PartName::new(session.into(), parse_number(n)?))
        });
        let in_place = part.as_ref().is_some_and(|part| {
            name == if folder == PACKS { part.pack_object() } else { part.meta_object() }
        });
        let (Some(part), true) = (part, in_place) else {
            self.report.note(name, FOREIGN);
            return;
        };
        let needed = if folder == PACKS {
            let indices = self.by_name.get(&part);
            for n in indices.into_iter().flatten() {
                self.packs[*n as usize].listed = Some(size);
            }
            indices.is_some()
        } else {
            self.metas.contains(&part)
        };
        if !needed {
            self.report.unneeded += 1;
            self.report.unneeded_bytes += size;
        }
    }

    /// Objects whose content was read already, or is not needed by any snapshot.
    fn has_a_known_name(&self, name: &str) -> bool {
        let is_session = |text: &str| SnapshotId::parse(text).is_ok();
        let (folder, rest) = name.split_once('/').unwrap_or_default();
        match folder {
            "beats" | "decisions" => rest
                .rsplit_once('-')
                .is_some_and(|(session, n)| is_session(session) && parse_number(n).is_some()),
            _ if [SNAPSHOTS, SESSIONS, WRITTEN_OFF].iter().any(|f| name.starts_with(f)) => {
                is_session(rest)
            }
            // Folders of features that this release does not write.
            _ => is_ours(name),
        }
    }

    async fn look_at_config(&mut self, name: &str) -> Result<()> {
        if config_number(name).is_none() {
            self.report.note(name, FOREIGN);
            return Ok(());
        }
        let keys = &self.inner.keys;
        let config = match self.inner.find(name).await {
            Ok(Some(object)) => ConfigObject::parse(name, &object),
            Ok(None) => return Ok(()),
            Err(error) => Err(unless_unavailable(error)?),
        };
        let verified = config.and_then(|config| {
            config.verify(keys)?;
            if config.read()?.repository != keys.repository {
                return Err(Error::damaged(name, "it is another repository's"));
            }
            Ok(())
        });
        match verified {
            Ok(()) => self.report.configs += 1,
            Err(error) => drop(self.report.problem(error)),
        }
        Ok(())
    }

    async fn look_at_slot(&mut self, name: &str) -> Result<()> {
        if name.strip_prefix(KEYS).and_then(SlotId::parse).is_none() {
            self.report.note(name, FOREIGN);
            return Ok(());
        }
        let slot = match self.inner.find(name).await {
            Ok(Some(object)) => Slot::parse(name, &object),
            Ok(None) => return Ok(()),
            Err(error) => Err(unless_unavailable(error)?),
        };
        match slot {
            Ok(slot) if slot.repository == self.inner.keys.repository => self.report.key_slots += 1,
            Ok(_) => self.report.note(name, "a key slot of another repository: it is skipped"),
            Err(Error::VersionUnsupported(_)) => {
                self.report.note(name, "a key slot that this release does not know");
            }
            Err(error) => drop(self.report.problem(error)),
        }
        Ok(())
    }

    /// A note of the collector: no backup begins while a condemn or a verdict cannot
    /// be read, and nothing is collected while any cannot.
    async fn look_at_note(&mut self, kind: Kind, name: &str, folder: &str) -> Result<()> {
        if name.strip_prefix(folder).and_then(parse_number).is_none() {
            self.report.note(name, FOREIGN);
            return Ok(());
        }
        let read = self.inner.find_content(kind, name).await.and_then(|content| {
            let json =
                serde_json::from_slice::<serde_json::Value>(&content.unwrap_or(b"{}".into()));
            json.map_err(|error| Error::damaged(name, error.to_string()))
        });
        if let Err(error) = read {
            self.report.problem(unless_unavailable(error)?);
        }
        Ok(())
    }
}
