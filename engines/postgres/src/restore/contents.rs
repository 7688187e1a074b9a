//! What a backup holds, read from its documents.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use dbbackup_contract::{Failure, Reason, RestoreDatabase};
use dbbackup_engine::{Activity, BackupSource};
use serde::de::DeserializeOwned;

use super::choosing::choose;
use super::prelude::read_contents;
use super::roles::{NeededRoles, needed_roles};
use crate::archive::join::check_layout;
use crate::archive::{BlockKind, Layout, Needs, RoleChanges, TocEntry, database_prefix};
use crate::backup::{
    DATABASE_DOCUMENT_VERSION, DatabaseDocument, GLOBALS_STREAM, MAX_DOCUMENT_BYTES,
};
use crate::database::DatabaseProperties;
use crate::globals::{GLOBALS_VERSION, Globals};

/// A database of the backup, and the name that it gets.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) target: String,
    pub(super) document: DatabaseDocument,
    pub(super) layout: Layout,
    /// Its own properties, as the target gets them.
    pub(super) properties: DatabaseProperties,
    pub(super) roles: NeededRoles,
    /// The part of it that comes back; all of it where absent.
    pub(super) part: Option<Part>,
    /// Why it cannot come back, if that is known of the backup alone.
    pub(super) refusal: Option<Failure>,
    /// Its streams in the backup, and their lengths.
    streams: BTreeMap<String, u64>,
}

/// A part of a database.
pub(super) struct Part {
    /// Numbers of the entries that come back.
    pub(super) entries: HashSet<i64>,
    /// What belongs to the part and stays away.
    pub(super) left_out: Vec<String>,
    /// Tables that come back without their rows.
    pub(super) without_rows: Vec<String>,
}

/// Finds the databases that are asked for; all where nothing is asked for.
///
/// # Errors
/// `DatabaseNotFound` for a name that the backup lacks, `InvalidSpec` for two
/// databases of one name, and what a document that cannot be read is.
pub(super) async fn find_wanted(
    source: &dyn BackupSource,
    asked: &[RestoreDatabase],
    activity: &Activity,
) -> Result<Vec<Wanted>, Failure> {
    activity.waiting_for("the repository to list the streams of the backup");
    let streams: BTreeMap<String, u64> = source.list("databases/").await?.into_iter().collect();
    let wanted = if asked.is_empty() {
        all_of(source, &streams, activity).await?
    } else {
        asked.iter().map(|asked| (asked.name.clone(), asked.target_name().to_owned())).collect()
    };
    let mut targets = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for (name, target) in wanted {
        check_target(&target)?;
        if !targets.insert(target.clone()) {
            let message = format!("two databases would be restored as {target}");
            return Err(Failure::new(Reason::InvalidSpec, message));
        }
        let prefix = database_prefix(&name);
        if !streams.contains_key(&format!("{prefix}layout.json")) {
            let there = all_of(source, &streams, activity).await?;
            let names: Vec<_> = there.iter().take(20).map(|(name, _)| name.as_str()).collect();
            let message =
                format!("the backup has no database {name}; it has: {}", names.join(", "));
            return Err(Failure::new(Reason::DatabaseNotFound, message));
        }
        let stream = format!("{prefix}layout.json");
        let layout: Layout = read_document(source, &stream, activity).await?;
        check_layout(&layout)?;
        let document = read_database(source, &prefix, activity).await?;
        found.push(Wanted {
            name,
            target,
            properties: document.properties.clone(),
            document,
            layout,
            roles: NeededRoles::default(),
            part: None,
            refusal: None,
            streams: streams
                .range(prefix.clone()..)
                .take_while(|(stream, _)| stream.starts_with(&prefix))
                .map(|(stream, bytes)| (stream.clone(), *bytes))
                .collect(),
        });
    }
    Ok(found)
}

/// Finds out what comes back of a database and what that needs; where it is not all as it was,
/// from its table of contents.
///
/// # Errors
/// What the repository says, and what is damaged. What cannot be found is the database's refusal.
pub(super) async fn look_into(
    source: &dyn BackupSource,
    wanted: &mut Wanted,
    asked: &[RestoreDatabase],
    changes: &RoleChanges,
    activity: &Activity,
) -> Result<(), Failure> {
    // One database may come back twice, under two names.
    let is_it = |it: &&RestoreDatabase| it.is_part() && it.target_name() == wanted.target;
    let asked = asked.iter().find(is_it);
    let entries = match changes.any() || asked.is_some() {
        true => Some(read_contents(source, &wanted.layout, activity, changes).await?),
        false => None,
    };
    if let (Some(asked), Some(entries)) = (asked, &entries) {
        match choose(entries, asked) {
            Ok(part) => wanted.narrow(part, entries),
            Err(failure) => wanted.refusal = Some(failure),
        }
    }
    let comes_back = |entry: &&TocEntry| wanted.takes(entry.dump_id);
    let entries: Option<Vec<_>> =
        entries.as_ref().map(|entries| entries.iter().filter(comes_back).collect());
    let (properties, owners) = (&wanted.document.properties, &wanted.layout.needs.owners);
    let is_whole = wanted.part.is_none();
    wanted.roles = needed_roles(properties, owners, entries.as_deref(), is_whole, changes);
    check_complete(&wanted.layout, &wanted.streams)
}

impl Wanted {
    /// Whether an entry of its table of contents comes back.
    pub(super) fn takes(&self, dump_id: i64) -> bool {
        self.part.as_ref().is_none_or(|part| part.entries.contains(&dump_id))
    }

    /// Leaves only the part of the layout: no other data is read, counted or compared.
    fn narrow(&mut self, mut part: Part, entries: &[TocEntry]) {
        let blocks = &mut self.layout.blocks;
        let objects = blocks.iter().filter(|block| block.kind == BlockKind::LargeObjects);
        if objects.count() > 0 {
            part.left_out.push("large objects".to_owned());
        }
        blocks.retain(|block| part.entries.contains(&block.dump_id));
        let taken: Vec<_> =
            entries.iter().filter(|entry| part.entries.contains(&entry.dump_id)).collect();
        let names = |of: fn(&TocEntry) -> Option<&String>| {
            let names: BTreeSet<_> = taken.iter().filter_map(|entry| of(entry)).cloned().collect();
            names.into_iter().collect::<Vec<_>>()
        };
        self.layout.needs = Needs {
            owners: names(|entry| entry.owner.as_ref()),
            tablespaces: names(|entry| entry.tablespace.as_ref()),
            extensions: names(|entry| {
                Some(&entry.tag).filter(|_| entry.description == "EXTENSION")
            }),
            subscriptions: Vec::new(),
            objects: taken.len() as u64,
        };
        self.part = Some(part);
    }
}

/// Whether a backup holds all of these databases, by the streams that it has.
///
/// # Errors
/// What the repository says.
pub async fn holds_databases(source: &dyn BackupSource, names: &[String]) -> Result<bool, Failure> {
    for name in names {
        // Written last: without it the database is not in the backup.
        let layout = format!("{}layout.json", database_prefix(name));
        if source.list(&layout).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Longest name of a database (`NAMEDATALEN` - 1).
pub(super) const MAX_NAME_BYTES: usize = 63;

/// The server would cut a longer name, or take `template0` for its own.
fn check_target(target: &str) -> Result<(), Failure> {
    let wrong = target.is_empty() || target.len() > MAX_NAME_BYTES || target.contains('\0');
    if !wrong {
        return Ok(());
    }
    Err(Failure::new(
        Reason::InvalidSpec,
        format!("{target:?} cannot be a database's name: it has from 1 to {MAX_NAME_BYTES} bytes"),
    ))
}

async fn all_of(
    source: &dyn BackupSource,
    streams: &BTreeMap<String, u64>,
    activity: &Activity,
) -> Result<Vec<(String, String)>, Failure> {
    let mut names = Vec::new();
    for stream in streams.keys() {
        if let Some(prefix) = stream.strip_suffix("layout.json")
            && prefix.matches('/').count() == 2
        {
            let name = read_database(source, prefix, activity).await?.properties.name;
            names.push((name.clone(), name));
        }
    }
    Ok(names)
}

async fn read_database(
    source: &dyn BackupSource,
    prefix: &str,
    activity: &Activity,
) -> Result<DatabaseDocument, Failure> {
    let document: DatabaseDocument =
        read_document(source, &format!("{prefix}database.json"), activity).await?;
    check_version("database.json", document.version, DATABASE_DOCUMENT_VERSION)?;
    Ok(document)
}

/// Roles and tablespaces of the backup.
pub(super) async fn read_globals(
    source: &dyn BackupSource,
    activity: &Activity,
) -> Result<Globals, Failure> {
    let globals: Globals = read_document(source, GLOBALS_STREAM, activity).await?;
    check_version(GLOBALS_STREAM, globals.version, GLOBALS_VERSION)?;
    Ok(globals)
}

fn check_version(what: &str, version: u32, known: u32) -> Result<(), Failure> {
    if version == known {
        return Ok(());
    }
    Err(Failure::new(
        Reason::VersionUnsupported,
        format!("{what} has version {version}, this release reads {known}"),
    )
    .with_hint("Use the release that wrote the backup, or a newer one."))
}

/// Every stream of the layout must be there, with its length.
fn check_complete(layout: &Layout, streams: &BTreeMap<String, u64>) -> Result<(), Failure> {
    let prelude = (&layout.prelude.stream, layout.prelude.bytes);
    let blocks = layout.blocks.iter().map(|block| (&block.stream, block.bytes));
    for (stream, bytes) in std::iter::once(prelude).chain(blocks) {
        match streams.get(stream) {
            Some(length) if *length == bytes => {}
            Some(length) => {
                let message = format!("stream {stream} has {length} bytes instead of {bytes}");
                return Err(Failure::new(Reason::ArchiveDamaged, message));
            }
            None => {
                let message = format!("the backup lacks its stream {stream}");
                return Err(Failure::new(Reason::StreamNotFound, message));
            }
        }
    }
    Ok(())
}

/// Reads a document of a backup.
pub(crate) async fn read_document<T: DeserializeOwned>(
    source: &dyn BackupSource,
    stream: &str,
    activity: &Activity,
) -> Result<T, Failure> {
    activity.waiting_for(format!("the repository to give {stream}"));
    let mut reader = source.open(stream).await?;
    let mut json = Vec::new();
    while let Some(bytes) = reader.next().await? {
        activity.moved(bytes.len());
        json.extend_from_slice(&bytes);
        if json.len() > MAX_DOCUMENT_BYTES {
            let message = format!("{stream} is longer than a document may be");
            return Err(Failure::new(Reason::ArchiveDamaged, message));
        }
    }
    serde_json::from_slice(&json).map_err(|error| {
        Failure::new(Reason::ArchiveDamaged, format!("{stream} cannot be read: {error}"))
    })
}
