//! Other roles than those that a backup names, in an archive as it streams.

use std::collections::{BTreeMap, HashSet};

use bytes::{Bytes, BytesMut};

use super::ArchiveError;
use super::entries::{EntryReader, Part};
use super::named_roles::{Changed, Roles, change_roles, mapped_user};
use super::prelude::Entry;
use super::wire::encode_string;

/// Which role stands for which of the backup, all at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleChanges {
    /// New names by old ones.
    pub(crate) map: BTreeMap<String, String>,
    /// The role that takes the place of whoever owned something.
    pub(crate) owner: Option<NewOwner>,
}

/// The role that owns what is restored.
#[derive(Clone, Debug)]
pub(crate) struct NewOwner {
    pub(crate) name: String,
    /// Roles that there are: what names another one is left out.
    pub(crate) known: HashSet<String>,
}

impl RoleChanges {
    /// Whether there is one.
    pub(crate) fn any(&self) -> bool {
        !self.map.is_empty() || self.owner.is_some()
    }

    /// The role that stands for `role`, which something names that belongs to `owner`.
    pub(crate) fn of(&self, role: &str, owner: &str) -> String {
        match &self.owner {
            // What belongs to whoever has the database (`pg_database_owner`) stays so.
            Some(new) if role == owner && !role.starts_with("pg_") => new.name.clone(),
            _ => self.map.get(role).map_or(role, String::as_str).to_owned(),
        }
    }

    /// Whether what `role` has said of objects that are yet to come stays. They will be made by the
    /// new owner: what some other role gives away of its own, even all of it to everybody, is not
    /// that one's to give.
    pub(crate) fn take_defaults(&self, role: &str, database_owner: &str) -> bool {
        self.owner.is_none() || role == database_owner
    }

    /// Whether what names `role`, a role of the target, stays.
    pub(crate) fn keeps(&self, role: &str) -> bool {
        self.owner.as_ref().is_none_or(|new| new.name == role || new.known.contains(role))
    }
}

/// The changes as an entry sees them.
struct OfEntry<'a> {
    changes: &'a RoleChanges,
    owner: &'a str,
}

impl Roles for OfEntry<'_> {
    fn becomes(&mut self, role: &str) -> Option<String> {
        Some(self.changes.of(role, self.owner)).filter(|role| self.changes.keeps(role))
    }

    fn keeps_grantors(&self) -> bool {
        self.changes.owner.is_none()
    }
}

/// Notes the roles that stand for those that an entry names, and leaves none out.
struct Named<'a> {
    entry: OfEntry<'a>,
    roles: Vec<String>,
}

impl Roles for Named<'_> {
    fn becomes(&mut self, role: &str) -> Option<String> {
        let role = self.entry.changes.of(role, self.entry.owner);
        if !self.roles.contains(&role) {
            self.roles.push(role.clone());
        }
        Some(role)
    }

    fn keeps_grantors(&self) -> bool {
        self.entry.keeps_grantors()
    }
}

/// The roles of the target that the definition of `entry` would name.
pub(super) fn named_by(
    entry: &Entry<'_>,
    changes: &RoleChanges,
) -> Result<Vec<String>, ArchiveError> {
    let owner = entry.owner.as_deref().unwrap_or_default();
    let mut named = Named { entry: OfEntry { changes, owner }, roles: Vec::new() };
    change_roles(entry, &mut named)?;
    Ok(named.roles)
}

/// Changes a prelude as it streams, the date in its place.
pub(crate) struct RoleRewriter<'a> {
    reader: EntryReader,
    entries: EntryRewriter<'a>,
}

impl<'a> RoleRewriter<'a> {
    /// `database_owner` is the backup's.
    pub(crate) fn new(changes: &'a RoleChanges, database_owner: &'a str) -> Self {
        let (gone, mapped) = (HashSet::new(), HashSet::new());
        let entries = EntryRewriter { changes, database_owner, gone, mapped };
        Self { reader: EntryReader::default(), entries }
    }

    /// Takes the next bytes, of any length; gives those that go on.
    pub(crate) fn push(&mut self, bytes: &Bytes) -> Result<Bytes, ArchiveError> {
        if !self.entries.changes.any() {
            return Ok(bytes.clone());
        }
        let (entries, mut out) = (&mut self.entries, BytesMut::new());
        self.reader.push(bytes, |part| match part {
            Part::Header(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Part::Entry(bytes, entry) => entries.rewrite(bytes, entry, &mut out),
        })?;
        Ok(out.freeze())
    }
}

struct EntryRewriter<'a> {
    changes: &'a RoleChanges,
    database_owner: &'a str,
    /// Entries of which nothing is left.
    gone: HashSet<i64>,
    /// User mappings so far: two roles may have become one.
    mapped: HashSet<(String, String)>,
}

impl EntryRewriter<'_> {
    fn rewrite(
        &mut self,
        bytes: &[u8],
        entry: &Entry<'_>,
        out: &mut BytesMut,
    ) -> Result<(), ArchiveError> {
        let old_owner = entry.owner.as_deref().unwrap_or_default();
        let mut roles = OfEntry { changes: self.changes, owner: old_owner };
        let mut changed = change_roles(entry, &mut roles)?;
        if entry.description == "USER MAPPING"
            && let Some(mapped) = mapped_user(entry.definition, &mut roles)
            && !self.mapped.insert(mapped)
        {
            changed = Changed::Gone;
        }
        if entry.description == "DEFAULT ACL"
            && !self.changes.take_defaults(old_owner, self.database_owner)
        {
            changed = Changed::Gone;
        }
        let speaks_of_it = matches!(entry.description.as_str(), "COMMENT" | "SECURITY LABEL");
        if speaks_of_it && entry.dependencies().iter().any(|id| self.gone.contains(id)) {
            changed = Changed::Gone;
        }
        if changed == Changed::Gone {
            self.gone.insert(entry.dump_id);
        }
        let definition = match &changed {
            Changed::Same => entry.definition,
            Changed::To(text) => text,
            // What has no definition is not restored.
            Changed::Gone => b"",
        };
        let new_owner = self.changes.map.get(old_owner);
        if changed == Changed::Same && new_owner.is_none() {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let (definition_at, owner_at) = (&entry.definition_at, &entry.owner_at);
        let mut strings = [Vec::new(), Vec::new()];
        encode_string(definition, entry.int_size, &mut strings[0]);
        match new_owner {
            Some(owner) => encode_string(owner.as_bytes(), entry.int_size, &mut strings[1]),
            None => strings[1].extend_from_slice(&bytes[owner_at.clone()]),
        }
        out.extend_from_slice(&bytes[..definition_at.start]);
        out.extend_from_slice(&strings[0]);
        out.extend_from_slice(&bytes[definition_at.end..owner_at.start]);
        out.extend_from_slice(&strings[1]);
        out.extend_from_slice(&bytes[owner_at.end..]);
        Ok(())
    }
}
