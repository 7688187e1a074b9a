//! Header and table of contents: what they hold, read as they arrive.

use std::collections::BTreeSet;
use std::ops::Range;

use super::ArchiveError;
use super::layout::{BlockKind, Needs};
use super::stream_names::shown;
use super::wire::{Cursor, Unread};
use crate::versions::major_of;

/// Most bytes of a header; real ones have about a hundred.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Numbers of the creation date: seconds to year, and daylight saving.
const DATE_NUMBERS: usize = 7;
/// `archCustom`.
const FORMAT_CUSTOM: u8 = 1;

/// What stands before the table of contents.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: (u8, u8, u8),
    pub(super) int_size: usize,
    pub(super) offset_size: usize,
    /// Where the creation date stands.
    pub(super) date: Range<usize>,
    pub(super) server_version: String,
    pub(super) client_version: String,
    /// Entries of the table of contents.
    pub(super) entries: u64,
    /// Its bytes, the number of entries included.
    pub(super) length: usize,
}

/// Reads the header at the start of `bytes`.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, Unread> {
    let mut cursor = Cursor::new(bytes, 4);
    let header = read_header_fields(&mut cursor);
    let length = match &header {
        Ok(header) => header.length,
        Err(_) => bytes.len(),
    };
    if length > MAX_HEADER_BYTES && !matches!(header, Err(Unread::Bad(_))) {
        return Err(Unread::Bad(ArchiveError::Damaged("its header has no end".to_owned())));
    }
    header
}

fn read_header_fields(cursor: &mut Cursor<'_>) -> Result<Header, Unread> {
    let unsupported = |what: String| Unread::Bad(ArchiveError::Unsupported(what));
    if cursor.take(5)? != b"PGDMP" {
        return Err(unsupported("not in pg_dump's custom format".to_owned()));
    }
    let version = (cursor.byte()?, cursor.byte()?, cursor.byte()?);
    if version.0 != 1 || !(14..=16).contains(&version.1) {
        let (major, minor, revision) = version;
        return Err(unsupported(format!(
            "of format {major}.{minor}.{revision}; known are 1.14 to 1.16"
        )));
    }
    let (int_size, offset_size) = (usize::from(cursor.byte()?), usize::from(cursor.byte()?));
    if !(int_size == 4 || int_size == 8) || !(offset_size == 4 || offset_size == 8) {
        return Err(unsupported(format!("of a machine with numbers of {int_size} bytes")));
    }
    cursor.set_int_size(int_size);
    if cursor.byte()? != FORMAT_CUSTOM {
        return Err(unsupported("not in pg_dump's custom format".to_owned()));
    }
    // 1.15 replaced a level by an algorithm; both write nothing as zero.
    let compression = if version.1 >= 15 { i64::from(cursor.byte()?) } else { cursor.int()? };
    if compression != 0 {
        return Err(unsupported("compressed by pg_dump itself".to_owned()));
    }
    let start = cursor.position();
    for _ in 0..DATE_NUMBERS {
        cursor.int()?;
    }
    let date = start..cursor.position();
    cursor.string()?;
    let server_version = cursor.text()?.unwrap_or_default();
    let client_version = cursor.text()?.unwrap_or_default();
    let entries = u64::try_from(cursor.int()?)
        .map_err(|_| ArchiveError::Damaged("a negative number of entries".to_owned()))?;
    let length = cursor.position();
    Ok(Header {
        version,
        int_size,
        offset_size,
        date,
        server_version,
        client_version,
        entries,
        length,
    })
}

/// One entry of the table of contents, as far as it matters here.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) dump_id: i64,
    /// A block of data belongs to it.
    pub(super) has_data: bool,
    /// Its name, in the database's encoding.
    pub(super) tag: &'a [u8],
    pub(super) description: String,
    pub(super) section: i64,
    /// Its schema, in the database's encoding.
    pub(super) namespace: Option<&'a [u8]>,
    pub(super) tablespace: Option<String>,
    pub(super) owner: Option<String>,
    /// The statements that make it, in the database's encoding.
    pub(super) definition: &'a [u8],
    /// Where `definition` stands in the entry, its length included.
    pub(super) definition_at: Range<usize>,
    /// Where the owner stands in the entry, its length included.
    pub(super) owner_at: Range<usize>,
    /// Numbers of entries that it depends on, as they are written.
    dependencies: &'a [u8],
    pub(super) int_size: usize,
    /// Its bytes.
    pub(super) length: usize,
}

/// Reads the entry at the start of `bytes`.
pub(super) fn read_entry<'a>(bytes: &'a [u8], header: &Header) -> Result<Entry<'a>, Unread> {
    let mut cursor = Cursor::new(bytes, header.int_size);
    let dump_id = cursor.int()?;
    let has_data = cursor.int()? != 0;
    // Table's and object's OID.
    cursor.string()?;
    cursor.string()?;
    let tag = cursor.string()?.unwrap_or_default();
    let description = cursor.text()?.unwrap_or_default();
    let section = cursor.int()?;
    let start = cursor.position();
    let definition = cursor.string()?.unwrap_or_default();
    let definition_at = start..cursor.position();
    // Drop statement, copy statement.
    cursor.string()?;
    cursor.string()?;
    let namespace = cursor.string()?;
    let tablespace = cursor.text()?;
    // Table access method.
    cursor.string()?;
    if header.version.1 >= 16 {
        // Kind of relation.
        cursor.int()?;
    }
    let start = cursor.position();
    let owner = cursor.text()?;
    let owner_at = start..cursor.position();
    // Whether it has OIDs: from older times.
    cursor.string()?;
    let start = cursor.position();
    // Dependencies end with no string.
    while cursor.string()?.is_some() {}
    let dependencies = bytes.get(start..cursor.position()).unwrap_or_default();
    // Where its data lies: a state and an offset, unset in a stream.
    cursor.take(1 + header.offset_size)?;
    let length = cursor.position();
    Ok(Entry {
        dump_id,
        has_data,
        tag,
        description,
        section,
        namespace,
        tablespace,
        owner,
        definition,
        definition_at,
        owner_at,
        dependencies,
        int_size: header.int_size,
        length,
    })
}

impl Entry<'_> {
    /// Numbers of the entries that it depends on.
    pub(super) fn dependencies(&self) -> Vec<i64> {
        let mut cursor = Cursor::new(self.dependencies, self.int_size);
        let mut numbers = Vec::new();
        while let Ok(Some(text)) = cursor.string() {
            numbers
                .extend(std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()));
        }
        numbers
    }

    /// What kind of block holds its data.
    pub(super) fn block_kind(&self) -> BlockKind {
        match self.description.as_str() {
            "BLOBS" => BlockKind::LargeObjects,
            _ => BlockKind::Table,
        }
    }

    /// Whether every database of that server has it: the schema `public` of a server
    /// before 15 is written down, since it is not what a newer one would make.
    fn is_default_of(&self, server_version: &str) -> bool {
        let of_public = match self.description.as_str() {
            "SCHEMA" => self.tag == b"public",
            "ACL" | "COMMENT" => self.tag == b"SCHEMA public",
            _ => false,
        };
        of_public && major_of(server_version).is_some_and(|major| major < 15)
    }

    /// Whether it makes what its owner then owns. Privileges, comments and labels
    /// bear the owner's name, too, and do nothing with it: that of the schema
    /// `public` is a role which a server before 14 lacks.
    pub(super) fn makes_an_object(&self) -> bool {
        !matches!(self.description.as_str(), "ACL" | "COMMENT" | "SECURITY LABEL")
    }

    /// Whether it speaks of the database itself, or of how the archive is read.
    pub(super) fn is_of_database(&self) -> bool {
        match self.description.as_str() {
            "ENCODING" | "STDSTRINGS" | "SEARCHPATH" | "DATABASE" | "DATABASE PROPERTIES" => true,
            "ACL" | "COMMENT" | "SECURITY LABEL" => self.tag.starts_with(b"DATABASE "),
            _ => false,
        }
    }
}

/// Collects what a target must have.
#[derive(Debug, Default)]
pub(super) struct NeedsCollector {
    owners: BTreeSet<String>,
    tablespaces: BTreeSet<String>,
    extensions: BTreeSet<String>,
    subscriptions: BTreeSet<String>,
    objects: u64,
}

impl NeedsCollector {
    /// Returns how many bytes it has come to take.
    pub(super) fn add(&mut self, entry: &Entry<'_>, server_version: &str) -> usize {
        if entry.is_of_database() {
            return 0;
        }
        if !entry.is_default_of(server_version) {
            self.objects += 1;
        }
        let mut kept = 0;
        let mut keep = |names: &mut BTreeSet<String>, name: &str| {
            if !name.is_empty() && !names.contains(name) {
                kept += name.len() + size_of::<String>();
                names.insert(name.to_owned());
            }
        };
        match entry.description.as_str() {
            "EXTENSION" => keep(&mut self.extensions, &shown(entry.tag)),
            "SUBSCRIPTION" => keep(&mut self.subscriptions, &shown(entry.tag)),
            _ => {}
        }
        if entry.makes_an_object() {
            keep(&mut self.owners, entry.owner.as_deref().unwrap_or_default());
        }
        keep(&mut self.tablespaces, entry.tablespace.as_deref().unwrap_or_default());
        kept
    }

    pub(super) fn finish(self) -> Needs {
        Needs {
            owners: self.owners.into_iter().collect(),
            tablespaces: self.tablespaces.into_iter().collect(),
            extensions: self.extensions.into_iter().collect(),
            subscriptions: self.subscriptions.into_iter().collect(),
            objects: self.objects,
        }
    }
}
