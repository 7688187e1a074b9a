//! The content of `snapshots/<session>`: a head or a tombstone (`docs/format.md`,
//! "Snapshots").

use std::collections::HashSet;
use std::sync::Arc;

use dbbackup_contract::MadeBy;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::envelope::Salt;
use crate::keyring::DigestKey;
use crate::moves::{Move, encode_moves, parse_moves};
use crate::names::{MAX_SESSION_BYTES, MAX_STREAM_NAME_BYTES, PartName, SnapshotId};
use crate::piece::Place;
use crate::wire::{Malformed, Reader, put_bytes, put_varint};
use crate::{Error, Result};

/// Largest stored head, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 1024 * 1024;
/// Most packs in the table of a head: 16 TiB of packs of 16 MiB. A page is small where
/// it is compressed, so the size of a head alone bounds nothing: whoever reads a table
/// keeps 100 bytes and more of each entry.
pub(crate) const MAX_PACKS: u64 = 1 << 20;
/// Most streams in the table of a head: ten million files of a folder, and more.
const MAX_STREAMS: u64 = 1 << 24;
const MAX_ABOUT_BYTES: usize = 64 * 1024;
/// Largest report of a run, as JSON, in bytes.
pub const MAX_REPORT_BYTES: usize = 256 * 1024;

const VARIANT_HEAD: u8 = 1;
const VARIANT_TOMBSTONE: u8 = 2;

const SECTION_ABOUT: u64 = 1;
const SECTION_SESSIONS: u64 = 2;
const SECTION_META: u64 = 3;
const SECTION_PACKS: u64 = 4;
const SECTION_STREAMS: u64 = 5;
const SECTION_REPORT: u64 = 6;
const SECTION_MOVES: u64 = 7;
const SECTION_DIGEST_KEY: u64 = 8;
/// Optional: a reader that does not know hooks needs none.
const SECTION_HOOKS: u64 = 64;
/// Unknown sections from here on may be skipped.
const FIRST_OPTIONAL_SECTION: u64 = 64;

/// What a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The snapshot's id.
    pub session: String,
    /// The series that it belongs to.
    pub series: String,
    /// The run that made it.
    pub run_id: String,
    /// The run's slot.
    pub slot_time: Timestamp,
    /// Which attempt of the run it was, from 0.
    pub attempt: u32,
    /// What kind of data it holds, in the caller's words.
    pub kind: String,
    /// Why it was made.
    #[serde(default)]
    pub made_by: MadeBy,
    /// The predecessor's sequence plus one; 1 for a first one. Not unique:
    /// manual runs may fork it.
    pub sequence: u64,
    /// The snapshot whose chunks were known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<PredecessorRef>,
    /// The snapshot that it is a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<CopiedFrom>,
    /// When the attempt began.
    pub start_time: Timestamp,
    /// When it was committed.
    pub commit_time: Timestamp,
    /// Bytes of the run.
    pub bytes: dbbackup_contract::ByteCounts,
    /// How many streams it holds.
    pub streams: u64,
    /// What the caller wants to find snapshots by.
    #[serde(default)]
    pub labels: serde_json::Value,
}

/// One exact snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PredecessorRef {
    /// Its id.
    pub id: String,
    /// SHA-256 of its stored head, as hexadecimal digits.
    pub digest: String,
}

/// The snapshot, in another repository, that one is a copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopiedFrom {
    /// The repository's id, as hexadecimal digits.
    pub repository_id: String,
    /// The snapshot's id there.
    pub snapshot: String,
}

/// Why an attempt was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TombstoneReason {
    /// A later attempt began.
    Retry,
    /// Somebody asked what became of the run.
    Inspect,
    /// Its heart has not beaten for too long.
    Silent,
    /// It has taken longer than any session may.
    TooOld,
}

/// A tombstone's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tombstone {
    pub(crate) session: String,
    pub(crate) reason: TombstoneReason,
    pub(crate) time: Timestamp,
}

/// A meta object that a head refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaEntry {
    pub(crate) name: PartName,
    pub(crate) size: u32,
    pub(crate) salt: Salt,
}

/// A page of the pack table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackPage {
    pub(crate) entries: u32,
    pub(crate) place: Place,
}

/// A page of the stream table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamPage {
    pub(crate) entries: u32,
    pub(crate) first: String,
    pub(crate) place: Place,
}

/// A head, its tables still in pages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) about: About,
    pub(crate) sessions: Vec<Arc<str>>,
    pub(crate) metas: Vec<MetaEntry>,
    pub(crate) pack_pages: Vec<PackPage>,
    pub(crate) stream_pages: Vec<StreamPage>,
    pub(crate) report: serde_json::Value,
    /// Blocks of other packs that stand in these: of repackings alone.
    pub(crate) moves: Vec<Move>,
    /// Coded, empty where there are none.
    pub(crate) hooks: Vec<u8>,
    /// What the streams' digests are keyed with, where it is another repository's key.
    pub(crate) digest_key: Option<DigestKey>,
}

/// What stands in a snapshot's place.
#[derive(Clone, Debug)]
pub(crate) enum HeadObject {
    Head(Box<Head>),
    Tombstone,
}

/// Codes a tombstone.
pub(crate) fn encode_tombstone(tombstone: &Tombstone) -> Result<Vec<u8>> {
    let mut out = vec![VARIANT_TOMBSTONE];
    put_section(&mut out, SECTION_ABOUT, &json(tombstone)?);
    Ok(out)
}

impl Head {
    /// A head that says `about` and holds nothing.
    pub(crate) fn of(about: About) -> Self {
        Self {
            about,
            sessions: Vec::new(),
            metas: Vec::new(),
            pack_pages: Vec::new(),
            stream_pages: Vec::new(),
            report: serde_json::Value::Null,
            moves: Vec::new(),
            digest_key: None,
            hooks: Vec::new(),
        }
    }

    /// Codes the head.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let (about, report) = (json(&self.about)?, json(&self.report)?);
        if about.len() > MAX_ABOUT_BYTES || report.len() > MAX_REPORT_BYTES {
            return Err(Error::Misuse("labels or report of the snapshot are too long".into()));
        }
        let packs = self.pack_pages.iter().map(|page| page.entries);
        let streams = self.stream_pages.iter().map(|page| page.entries);
        if !add_up(packs, MAX_PACKS) || !add_up(streams, MAX_STREAMS) {
            let detail = "the snapshot has more packs or streams than a head may name";
            return Err(Error::Misuse(detail.into()));
        }
        let mut out = vec![VARIANT_HEAD];
        put_section(&mut out, SECTION_ABOUT, &about);
        let mut section = Vec::new();
        put_varint(&mut section, self.sessions.len() as u64);
        for session in &self.sessions {
            put_bytes(&mut section, session.as_bytes());
        }
        put_section(&mut out, SECTION_SESSIONS, &section);

        section.clear();
        put_varint(&mut section, self.metas.len() as u64);
        for meta in &self.metas {
            put_varint(&mut section, self.session_index(&meta.name)?);
            put_varint(&mut section, u64::from(meta.name.n));
            put_varint(&mut section, u64::from(meta.size));
            section.extend_from_slice(&meta.salt);
        }
        put_section(&mut out, SECTION_META, &section);

        section.clear();
        put_varint(&mut section, self.pack_pages.len() as u64);
        for page in &self.pack_pages {
            put_varint(&mut section, u64::from(page.entries));
            page.place.put(&mut section);
        }
        put_section(&mut out, SECTION_PACKS, &section);

        section.clear();
        put_varint(&mut section, self.stream_pages.len() as u64);
        for page in &self.stream_pages {
            put_varint(&mut section, u64::from(page.entries));
            put_bytes(&mut section, page.first.as_bytes());
            page.place.put(&mut section);
        }
        put_section(&mut out, SECTION_STREAMS, &section);
        put_section(&mut out, SECTION_REPORT, &report);
        if !self.moves.is_empty() {
            let moves = encode_moves(&self.moves, |pack| self.session_index(pack))?;
            put_section(&mut out, SECTION_MOVES, &moves);
        }
        if let Some(key) = &self.digest_key {
            put_section(&mut out, SECTION_DIGEST_KEY, key.bytes());
        }
        if !self.hooks.is_empty() {
            put_section(&mut out, SECTION_HOOKS, &self.hooks);
        }
        Ok(out)
    }

    fn session_index(&self, name: &PartName) -> Result<u64> {
        self.sessions
            .iter()
            .position(|session| *session == name.session)
            .map(|index| index as u64)
            .ok_or_else(|| Error::System(format!("the head lacks the session {}", name.session)))
    }
}

impl HeadObject {
    /// Reads the content of the object `name`.
    pub(crate) fn parse(name: &str, content: &[u8]) -> Result<Self> {
        let damaged = |error: &dyn std::fmt::Display| Error::damaged(name, error.to_string());
        let (variant, rest) = content.split_first().ok_or_else(|| damaged(&"it is empty"))?;
        let sections = parse_sections(name, rest)?;
        let section = |tag| {
            sections
                .iter()
                .find(|(found, _)| *found == tag)
                .map(|(_, section)| *section)
                .ok_or_else(|| damaged(&"a section is missing"))
        };
        let session = name.strip_prefix(crate::names::SNAPSHOTS).unwrap_or_default();
        match *variant {
            VARIANT_TOMBSTONE => {
                let tombstone: Tombstone = serde_json::from_slice(section(SECTION_ABOUT)?)
                    .map_err(|error| damaged(&error))?;
                if tombstone.session != session {
                    return Err(damaged(&"it is another attempt's"));
                }
                Ok(Self::Tombstone)
            }
            VARIANT_HEAD => {
                let about: About = serde_json::from_slice(section(SECTION_ABOUT)?)
                    .map_err(|error| damaged(&error))?;
                if about.session != session {
                    return Err(damaged(&"it is another snapshot's"));
                }
                let sessions =
                    parse_sessions(section(SECTION_SESSIONS)?).map_err(|error| damaged(&error))?;
                let moves = sections.iter().find(|(tag, _)| *tag == SECTION_MOVES);
                let moves = moves.map(|(_, section)| parse_moves(section, &sessions));
                let digest_key = sections.iter().find(|(tag, _)| *tag == SECTION_DIGEST_KEY);
                let digest_key = digest_key.map(|(_, section)| {
                    DigestKey::parse(section).ok_or_else(|| damaged(&"a key has another length"))
                });
                let head = Head {
                    digest_key: digest_key.transpose()?,
                    moves: moves.transpose().map_err(|error| damaged(&error))?.unwrap_or_default(),
                    metas: parse_metas(section(SECTION_META)?, &sessions)
                        .map_err(|error| damaged(&error))?,
                    pack_pages: parse_pack_pages(section(SECTION_PACKS)?)
                        .map_err(|error| damaged(&error))?,
                    stream_pages: parse_stream_pages(section(SECTION_STREAMS)?)
                        .map_err(|error| damaged(&error))?,
                    report: serde_json::from_slice(section(SECTION_REPORT)?)
                        .map_err(|error| damaged(&error))?,
                    hooks: section(SECTION_HOOKS).unwrap_or_default().to_vec(),
                    about,
                    sessions,
                };
                Ok(Self::Head(Box::new(head)))
            }
            _ => Err(Error::VersionUnsupported(format!("{name} is of an unknown kind"))),
        }
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Misuse(error.to_string()))
}

fn put_section(out: &mut Vec<u8>, tag: u64, content: &[u8]) {
    put_varint(out, tag);
    put_bytes(out, content);
}

fn parse_sections<'a>(name: &str, bytes: &'a [u8]) -> Result<Vec<(u64, &'a [u8])>> {
    let damaged = |error: Malformed| Error::damaged(name, error.to_string());
    let mut reader = Reader::new(bytes);
    let mut sections = Vec::new();
    let mut before = 0;
    while !reader.is_empty() {
        let tag = reader.varint().map_err(damaged)?;
        let content = reader.bytes(MAX_HEAD_BYTES).map_err(damaged)?;
        if tag <= before {
            return Err(damaged(Malformed("sections are not in order")));
        }
        before = tag;
        if (SECTION_ABOUT..=SECTION_DIGEST_KEY).contains(&tag) || tag == SECTION_HOOKS {
            sections.push((tag, content));
        } else if tag < FIRST_OPTIONAL_SECTION {
            return Err(Error::VersionUnsupported(format!(
                "{name} has a section {tag}, which this release does not know"
            )));
        }
    }
    Ok(sections)
}

type Parsed<T> = std::result::Result<T, Malformed>;

fn parse_list<T>(
    section: &[u8],
    mut item: impl FnMut(&mut Reader<'_>) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let mut reader = Reader::new(section);
    // Each item takes a byte at least, so the section's length bounds the list.
    let count = reader.count(section.len())?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(&mut reader)?);
    }
    reader.end()?;
    Ok(items)
}

fn parse_sessions(section: &[u8]) -> Parsed<Vec<Arc<str>>> {
    let mut known = HashSet::new();
    parse_list(section, |reader| {
        let text = reader.text(MAX_SESSION_BYTES)?;
        SnapshotId::parse(text).map_err(|_| Malformed("a session has no session's name"))?;
        let session: Arc<str> = Arc::from(text);
        // So that an index and a number name a pack.
        if !known.insert(Arc::clone(&session)) {
            return Err(Malformed("a session is in the list twice"));
        }
        Ok(session)
    })
}

/// Whether the entries of a table's pages are no more than `most`.
fn add_up(entries: impl Iterator<Item = u32>, most: u64) -> bool {
    entries.map(u64::from).sum::<u64>() <= most
}

/// A session's index and a number, as a name.
pub(crate) fn parse_part_name(reader: &mut Reader<'_>, sessions: &[Arc<str>]) -> Parsed<PartName> {
    let index = reader.small()?;
    let session = sessions.get(index as usize).ok_or(Malformed("a session is not in the list"))?;
    Ok(PartName::new(Arc::clone(session), reader.small()?))
}

fn parse_metas(section: &[u8], sessions: &[Arc<str>]) -> Parsed<Vec<MetaEntry>> {
    parse_list(section, |reader| {
        let name = parse_part_name(reader, sessions)?;
        Ok(MetaEntry { name, size: reader.small()?, salt: reader.array()? })
    })
}

fn parse_pack_pages(section: &[u8]) -> Parsed<Vec<PackPage>> {
    let pages = parse_list(section, |reader| {
        Ok(PackPage { entries: reader.small()?, place: Place::parse(reader)? })
    })?;
    if !add_up(pages.iter().map(|page| page.entries), MAX_PACKS) {
        return Err(Malformed("it has more packs than any snapshot"));
    }
    Ok(pages)
}

fn parse_stream_pages(section: &[u8]) -> Parsed<Vec<StreamPage>> {
    let pages = parse_list(section, |reader| {
        let entries = reader.small()?;
        let first = reader.text(MAX_STREAM_NAME_BYTES)?.to_owned();
        Ok(StreamPage { entries, first, place: Place::parse(reader)? })
    })?;
    if !add_up(pages.iter().map(|page| page.entries), MAX_STREAMS) {
        return Err(Malformed("it has more streams than any snapshot"));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: &str = "aaaaaaaa-20260101t000000z-aaaaaaaaaaaaaaaa-0";

    fn head() -> Head {
        let session: Arc<str> = Arc::from(SESSION);
        let time = Timestamp::UNIX_EPOCH;
        Head {
            about: About {
                session: SESSION.into(),
                series: "s".into(),
                run_id: "r".into(),
                slot_time: time,
                attempt: 0,
                kind: "Logical".into(),
                made_by: MadeBy::Schedule,
                sequence: 1,
                predecessor: None,
                copied_from: Some(CopiedFrom { repository_id: "00".into(), snapshot: "s".into() }),
                start_time: time,
                commit_time: time,
                bytes: dbbackup_contract::ByteCounts::default(),
                streams: 1,
                labels: serde_json::json!({"a": 1}),
            },
            sessions: vec![session.clone()],
            metas: vec![MetaEntry { name: PartName::new(session, 3), size: 9, salt: [4; 32] }],
            pack_pages: vec![PackPage { entries: 1, place: Place::Inline(vec![1, 2]) }],
            stream_pages: vec![StreamPage {
                entries: 2,
                first: "a".into(),
                place: Place::Meta { object: 0, counter: 1, at: 2, stored: 3 },
            }],
            report: serde_json::json!({"outcome": "Succeeded"}),
            moves: vec![Move {
                pack: PartName::new(Arc::from(SESSION), 8),
                blocks: 9,
                tag: [5; 16],
                home: 0,
                first: 2,
                carried: [0, 8].into_iter().collect(),
            }],
            hooks: vec![0],
            digest_key: DigestKey::parse(&[6; 32]),
        }
    }

    fn name() -> String {
        format!("snapshots/{SESSION}")
    }

    #[test]
    fn a_head_survives() {
        let HeadObject::Head(read) = HeadObject::parse(&name(), &head().encode().unwrap()).unwrap()
        else {
            panic!("not a head")
        };
        assert_eq!(*read, head());
    }

    #[test]
    fn unknown_sections_are_skipped_or_refused_by_their_number() {
        let with = |tag| {
            let mut bytes = Head { hooks: Vec::new(), ..head() }.encode().unwrap();
            put_section(&mut bytes, tag, b"new");
            HeadObject::parse(&name(), &bytes)
        };
        assert!(with(65).is_ok());
        assert!(matches!(with(63), Err(Error::VersionUnsupported(_))));
    }

    proptest! {
        #[test]
        fn hostile_heads_are_refused(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let _ = HeadObject::parse(&name(), &bytes);
            bytes.insert(0, VARIANT_HEAD);
            let _ = HeadObject::parse(&name(), &bytes);
            let mut changed = head().encode().unwrap();
            let position = at.index(changed.len());
            changed[position] = byte;
            let _ = HeadObject::parse(&name(), &changed);
        }
    }
}
