//! What a table of contents says of each entry, as far as a restore asks before it begins.

use bytes::Bytes;

use super::ArchiveError;
use super::entries::{EntryReader, Part};
use super::prelude::Entry;
use super::role_changes::{RoleChanges, named_by};
use super::stream_names::shown;

/// One entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct TocEntry {
    pub(crate) dump_id: i64,
    /// What it is: `TABLE`, `TABLE DATA`, `FK CONSTRAINT`.
    pub(crate) description: String,
    /// Its name, as people write it; what stands in it depends on what it is.
    pub(crate) tag: String,
    /// Its schema.
    pub(crate) namespace: Option<String>,
    /// Who owns what it makes; nobody where it makes nothing of its own.
    pub(crate) owner: Option<String>,
    pub(crate) tablespace: Option<String>,
    /// Numbers of the entries that it depends on.
    pub(crate) dependencies: Vec<i64>,
    /// Roles of the target that its definition would name.
    pub(crate) roles: Vec<String>,
    /// It says how the archive is read.
    pub(crate) is_of_archive: bool,
    /// It does what it does with the rights of its owner, whoever uses it.
    pub(crate) acts_as_owner: bool,
    /// It adds to a table what is a part of it, as the sequence of an identity column.
    pub(crate) alters_table: bool,
    /// It is the rows of a partition, which are loaded through the partitioned table.
    pub(crate) loads_through_root: bool,
    /// It is an exclusion constraint.
    pub(crate) is_exclusion: bool,
}

/// Most bytes that are kept of a table of contents, as of one that is written.
const MAX_BYTES: usize = 256 << 20;

/// Reads a prelude as it streams, the date in its place.
#[derive(Default)]
pub(crate) struct TocReader {
    reader: EntryReader,
    entries: Vec<TocEntry>,
    kept: usize,
}

impl TocReader {
    /// Takes the next bytes, of any length.
    pub(crate) fn push(
        &mut self,
        bytes: &Bytes,
        changes: &RoleChanges,
    ) -> Result<(), ArchiveError> {
        let Self { reader, entries, kept } = self;
        reader.push(bytes, |part| {
            let Part::Entry(_, entry) = part else { return Ok(()) };
            let entry = read(entry, changes)?;
            *kept += entry.kept_bytes();
            if *kept > MAX_BYTES {
                let what = format!("a table of contents of more than {} KiB", MAX_BYTES >> 10);
                return Err(ArchiveError::TooLarge(what));
            }
            entries.push(entry);
            Ok(())
        })
    }

    /// The prelude has ended: its entries.
    pub(crate) fn finish(self) -> Result<Vec<TocEntry>, ArchiveError> {
        self.reader.finish()?;
        Ok(self.entries)
    }
}

fn read(entry: &Entry<'_>, changes: &RoleChanges) -> Result<TocEntry, ArchiveError> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    Ok(TocEntry {
        dump_id: entry.dump_id,
        description: entry.description.clone(),
        tag: shown(entry.tag),
        namespace: entry.namespace.filter(|name| !name.is_empty()).map(shown),
        owner: named(&entry.owner).filter(|_| entry.makes_an_object()),
        tablespace: named(&entry.tablespace),
        dependencies: entry.dependencies(),
        roles: named_by(entry, changes)?,
        is_of_archive: ["ENCODING", "STDSTRINGS", "SEARCHPATH"]
            .contains(&entry.description.as_str()),
        loads_through_root: entry.definition.starts_with(b"-- load via partition root "),
        is_exclusion: entry.description == "CONSTRAINT"
            && memchr::memmem::find(entry.definition, b" EXCLUDE USING ").is_some(),
        acts_as_owner: match entry.description.as_str() {
            "VIEW" | "RULE" => true,
            // Also where its body alone says so.
            "FUNCTION" | "PROCEDURE" => {
                memchr::memmem::find(entry.definition, b" SECURITY DEFINER").is_some()
            }
            _ => false,
        },
        alters_table: entry.definition.starts_with(b"ALTER TABLE "),
    })
}

impl TocEntry {
    fn kept_bytes(&self) -> usize {
        let names = [&self.namespace, &self.owner, &self.tablespace].into_iter().flatten();
        let names = names.chain([&self.description, &self.tag]).chain(&self.roles);
        size_of::<Self>()
            + size_of_val(self.dependencies.as_slice())
            + size_of_val(self.roles.as_slice())
            + names.map(String::len).sum::<usize>()
    }
}
