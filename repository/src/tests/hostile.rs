//! Parsers of every object against hostile bytes: valid objects, changed where it
//! hurts and sealed again with the right key, so that the parser behind the seal
//! is reached. Nothing may panic, hang, or allocate more than the object allows.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbbackup_storage::MemoryStore;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use serde_json::json;

use super::fixture::*;
use crate::chunker::Cutting;
use crate::config::{ConfigObject, build_config};
use crate::envelope::{HEADER_BYTES, Kind, ObjectSeal, TAG_BYTES, open_object, seal_object};
use crate::head::{
    Head, HeadObject, MAX_PACKS, PackPage, StreamPage, Tombstone, TombstoneReason, encode_tombstone,
};
use crate::key_slot::Slot;
use crate::keyring::{Keyring, sha256};
use crate::moves::Move;
use crate::names::PartName;
use crate::pack::{BlockInfo, FinishedPack, OpenPack, PackEntry};
use crate::piece::{Place, decode_piece, encode_piece};
use crate::recipe::{End, Run, RunReader, RunWriter};
use crate::spans::spans;
use crate::tables::{
    Segment, StreamEntry, UsedPack, parse_packs, parse_streams, put_pack, put_stream,
};
use crate::wire::put_varint;
use crate::writer::inline_pack_pages;
use crate::{CheckLevel, Error, Repository, Snapshot, SystemEnvironment};

/// Bytes that a parser may allocate for each byte that it is given: an item of the
/// smallest kind takes three bytes, and 72 in memory; a vector that grows has its
/// old place beside its new one.
const FACTOR: u64 = 96;
/// What it may allocate for the shortest object: names, messages.
const SOME: u64 = 64 * 1024;
/// Plain bytes that a piece may say it has.
const PIECE: u64 = 4 * 1024 * 1024;

/// A change of an object.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    /// A number in place of whatever stands there.
    Number(Index, u64),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// A part once more, somewhere else.
    Copy(Index, usize, Index),
    Cut(Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let at = |index: &Index| index.index(length + 1);
        match self {
            Self::Set(index, byte) if length > 0 => bytes[index.index(length)] = *byte,
            Self::Set(..) => {}
            Self::Number(index, number) => {
                let mut coded = Vec::new();
                put_varint(&mut coded, *number);
                let end = length.min(at(index) + 1);
                bytes.splice(at(index)..end, coded);
            }
            Self::Insert(index, inserted) => {
                bytes.splice(at(index)..at(index), inserted.iter().copied());
            }
            Self::Remove(index, count) => {
                bytes.drain(at(index)..length.min(at(index) + count));
            }
            Self::Copy(from, count, to) => {
                let part = bytes[at(from)..length.min(at(from) + count)].to_vec();
                bytes.splice(at(to)..at(to), part);
            }
            Self::Cut(index) => bytes.truncate(at(index)),
        }
    }
}

fn numbers() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 127, 128, 65_536, 1 << 20, 1 << 31, 1 << 32, 1 << 40, u64::MAX];
    prop_oneof![prop::sample::select(edges.to_vec()), any::<u64>()]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<Index>;
    let change = prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (index(), numbers()).prop_map(|(at, number)| Change::Number(at, number)),
        1 => (index(), any::<Vec<u8>>()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (index(), 1..50_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (index(), 1..200_usize, index()).prop_map(|(a, count, b)| Change::Copy(a, count, b)),
        1 => index().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 1..4)
}

fn changed_by(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        change.apply(&mut bytes);
    }
    bytes
}

/// Runs a parser, and asserts that it stays within what `length` bytes allow.
fn bounded<T>(length: usize, allowance: u64, parse: impl FnOnce() -> T) -> T {
    let mut parsed = None;
    let most = allocation_counter::measure(|| parsed = Some(parse())).bytes_max;
    let allowed = FACTOR * length as u64 + SOME + allowance;
    assert!(most <= allowed, "{most} bytes for an object of {length}");
    parsed.unwrap()
}

/// Content of a head with tables, of a page of packs and one of streams.
struct Samples {
    head: (String, Vec<u8>),
    sessions: Vec<Arc<str>>,
    packs: (Vec<u8>, u32),
    streams: (Vec<u8>, u32),
}

/// Of a real backup, made once.
fn samples() -> &'static Samples {
    static SAMPLES: std::sync::OnceLock<Samples> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| {
        // Tests with properties are not asynchronous; this one may be called by one.
        let made = std::thread::spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(make_samples())
        });
        made.join().unwrap()
    })
}

async fn make_samples() -> Samples {
    let (store, repository) = small_repository().await;
    let list = repository.snapshots(None).await.unwrap();
    let snapshot = list.snapshots.last().unwrap();
    let inner = &repository.inner;
    let name = snapshot.id().head_name();
    let head = open_object(&inner.keys, Kind::Snapshot, &name, &store.objects()[&name]).unwrap();
    let HeadObject::Head(mut parsed) = HeadObject::parse(&name, &head).unwrap() else { panic!() };
    let moved = |n| Move {
        pack: PartName::new(Arc::clone(&parsed.sessions[0]), n),
        blocks: 1000,
        tag: [n as u8; TAG_BYTES],
        home: 0,
        first: 7,
        carried: (0..1000).step_by(3).collect(),
    };
    parsed.moves = (0..20).map(moved).collect();
    let head = parsed.encode().unwrap();
    let (packs, streams) = (&parsed.pack_pages[0], &parsed.stream_pages[0]);
    Samples {
        packs: (inner.piece(&packs.place, &[]).await.unwrap(), packs.entries),
        streams: (inner.piece(&streams.place, &[]).await.unwrap(), streams.entries),
        head: (name, head),
        sessions: parsed.sessions.clone(),
    }
}

/// Two days in one repository.
async fn small_repository() -> (Arc<MemoryStore>, Repository) {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let day = Contents::from([
        ("db/one".into(), noise(1, 100_000)),
        ("db/two".into(), b"some text ".repeat(3000)),
        ("empty".into(), Vec::new()),
    ]);
    back_up(&repository, 1, &day).await.unwrap();
    back_up(&repository, 2, &changed(&day, 2)).await.unwrap();
    (store, repository)
}

/// A pack, and the plain content of its two tables.
fn pack(keys: &Keyring) -> (FinishedPack, [Vec<u8>; 2]) {
    let name = PartName::new(Arc::from("s-1"), 0);
    let seal = ObjectSeal::fresh(keys, &SystemEnvironment, Kind::Pack, name.pack_object()).unwrap();
    let mut pack = OpenPack::new(keys, name, seal, Vec::new());
    for n in 0..20_u8 {
        let chunks = [vec![n; 100], vec![n + 1; 300]];
        let ids: Vec<_> = chunks.iter().map(|c| (keys.chunk_id(c), c.len() as u32)).collect();
        pack.push(&chunks.concat(), false, &ids).unwrap();
    }
    let pack = pack.finish(true).unwrap();
    let entry = &pack.entry;
    let (at, middle) = (entry.block_table_at, entry.block_table_at + entry.block_table_bytes);
    let tables = [(at, middle, 0), (middle, middle + entry.chunk_table_bytes, 1)];
    let tables = tables.map(|(start, end, n)| {
        let mut frame = pack.object[start as usize..end as usize].to_vec();
        entry.seal(keys).unwrap().open((1 << 32) + n, false, &mut frame).unwrap();
        frame
    });
    (pack, tables)
}

proptest! {
    // More by PROPTEST_CASES.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

    #[test]
    fn configs(changes in changes()) {
        let keys = Keyring::for_tests();
        let config = build_config(&keys, "config/0", jiff::Timestamp::UNIX_EPOCH).unwrap();
        let raw = changed_by(&config, &changes);
        let parse = |object: &[u8]| {
            let whole = ConfigObject::parse("config/0", object)?;
            whole.read().map(|_| whole)
        };
        let _ = bounded(raw.len(), 0, || parse(&raw));
        // With the length and the digests that belong to the changed JSON.
        let json = changed_by(&config[12..config.len() - 64], &changes);
        let mut whole = b"dbbkconf".to_vec();
        whole.extend_from_slice(&(json.len() as u32).to_le_bytes());
        whole.extend_from_slice(&json);
        whole.extend_from_slice(&sha256(&whole));
        whole.extend_from_slice(&keys.config_mac("config/0", &whole));
        let parsed = bounded(whole.len(), 0, || parse(&whole));
        if let Ok(config) = parsed {
            prop_assert!(config.verify(&keys).is_ok());
        }
    }

    #[test]
    fn key_slots(changes in changes(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        for mut slot in [body.clone(), [b"dbks", &body[..]].concat()] {
            for change in &changes {
                change.apply(&mut slot);
            }
            let digest_at = slot.len().saturating_sub(32);
            let digest = sha256(&slot[..digest_at]);
            slot.truncate(digest_at);
            slot.extend_from_slice(&digest);
            let name = slot.get(24..40).map_or_else(String::new, crate::names::base32);
            let name = format!("keys/{name}");
            let _ = bounded(slot.len(), 0, || Slot::parse(&name, &slot));
        }
    }

    #[test]
    fn envelopes(changes in changes()) {
        let keys = Keyring::for_tests();
        let kind = Kind::Session;
        let object = seal_object(&keys, &SystemEnvironment, kind, "sessions/a", b"{}").unwrap();
        let changed = changed_by(&object, &changes);
        let opened = bounded(changed.len(), 0, || open_object(&keys, kind, "sessions/a", &changed));
        prop_assert_eq!(opened.is_ok(), changed == object);
    }

    #[test]
    fn heads(changes in changes()) {
        let (name, content) = &samples().head;
        let changed = changed_by(content, &changes);
        let _ = bounded(changed.len(), 0, || HeadObject::parse(name, &changed));
    }

    #[test]
    fn tombstones(changes in changes()) {
        let session = samples().head.0.strip_prefix("snapshots/").unwrap().to_owned();
        let (reason, time) = (TombstoneReason::Retry, jiff::Timestamp::UNIX_EPOCH);
        let content = encode_tombstone(&Tombstone { session, reason, time }).unwrap();
        let changed = changed_by(&content, &changes);
        let _ = bounded(changed.len(), 0, || HeadObject::parse(&samples().head.0, &changed));
    }

    #[test]
    fn tables(changes in changes(), entries in numbers()) {
        let Samples { packs, streams, sessions, .. } = samples();
        for entries in [None, Some(entries as u32)] {
            let page = changed_by(&packs.0, &changes);
            let count = entries.unwrap_or(packs.1);
            let _ = bounded(page.len(), 0, || parse_packs(&page, count, sessions, &mut HashSet::new()));
            let page = changed_by(&streams.0, &changes);
            let count = entries.unwrap_or(streams.1);
            let _ = bounded(page.len(), 0, || parse_streams(&page, count));
        }
    }

    #[test]
    fn pieces(content: Vec<u8>, times in 1..2000_usize, changes in changes()) {
        let piece = changed_by(&encode_piece(&content.repeat(times)), &changes);
        let decoded = bounded(piece.len(), PIECE, || decode_piece(&piece));
        if let Ok(decoded) = decoded {
            prop_assert!(decoded.len() as u64 <= PIECE);
        }
    }

    #[test]
    fn footers(changes in changes(), which in 0..2_usize) {
        let keys = Keyring::for_tests();
        let (pack, mut tables) = pack(&keys);
        tables[which] = changed_by(&tables[which], &changes);
        let mut entry = pack.entry;
        let seal = entry.seal(&keys).unwrap();
        let [blocks, chunks] = tables;
        let lengths = [blocks.len(), chunks.len()].map(|length| (length + TAG_BYTES) as u32);
        [entry.block_table_bytes, entry.chunk_table_bytes] = lengths;
        let mut footer = blocks;
        entry.block_table_tag = seal.seal(1 << 32, false, &mut footer, 0).unwrap();
        let middle = footer.len();
        footer.extend_from_slice(&chunks);
        entry.chunk_table_tag = seal.seal((1 << 32) + 1, false, &mut footer, middle).unwrap();
        let opened = bounded(footer.len(), 0, || entry.open_footer(&keys, &footer));
        if let Ok(footer) = opened {
            for block in &footer.blocks {
                prop_assert!(block.at as usize >= HEADER_BYTES);
                prop_assert!(block.at + block.stored <= entry.block_table_at);
            }
        }
    }

    #[test]
    fn recipes(
        runs in prop::collection::vec((0..3_u32, 0..40_u32, 0..70_000_u32, 1..200_000_u64), 1..40),
        changes in changes(),
    ) {
        let mut writer = RunWriter::default();
        for (pack, block, offset, length) in runs {
            let end = End { pack, block, offset: offset.saturating_add(length as u32) };
            writer.push(&Run { pack, block, offset, length }, end);
        }
        let segment = changed_by(&writer.take(), &changes);
        let blocks: Vec<_> = (0..40).map(|n| BlockInfo {
            at: 40 + n * 100, stored: 100, plain: 65_536, zstd: true, chunks: 1, first_chunk: n,
        }).collect();
        let mut reader = RunReader::new(&segment);
        let mut end = End::default();
        for _ in 0..=segment.len() {
            // Each run lies in the pack's blocks, or is refused.
            let Ok(Some(run)) = reader.next(end) else { return Ok(()) };
            let Ok((parts, next)) = bounded(blocks.len(), 0, || spans(&run, |n| Some(blocks.get(n as usize)?.plain))) else {
                return Ok(());
            };
            prop_assert_eq!(parts.iter().map(|part| u64::from(part.length)).sum::<u64>(), run.length);
            end = next;
        }
        prop_assert!(false, "more runs than bytes");
    }
}

#[test]
fn a_table_of_more_packs_than_any_snapshot_or_of_one_twice_is_damage() {
    let Samples { head: (name, head), packs, sessions, .. } = samples();
    let HeadObject::Head(mut head) = HeadObject::parse(name, head).unwrap() else { panic!() };
    let page = head.pack_pages[0].clone();
    let with = |entries: &[u32]| {
        let mut head = head.clone();
        let page = |entries: &u32| PackPage { entries: *entries, ..page.clone() };
        head.pack_pages = entries.iter().map(page).collect();
        head
    };
    let (most, few) = (MAX_PACKS as u32, 1000);
    with(&[most - few, few]).encode().unwrap();
    assert!(matches!(with(&[most - few, few + 1]).encode(), Err(Error::Misuse(_))));
    // What this release would not write, byte by byte.
    let fits = with(&[most]).encode().unwrap();
    let coded = |entries: u32| {
        let mut coded = Vec::new();
        put_varint(&mut coded, u64::from(entries));
        coded
    };
    let at = fits.windows(3).position(|bytes| bytes == coded(most)).unwrap();
    HeadObject::parse(name, &fits).unwrap();
    for hostile in [most + 1, (1 << 21) - 1] {
        let mut bytes = fits.clone();
        bytes.splice(at..at + 3, coded(hostile));
        assert!(matches!(HeadObject::parse(name, &bytes), Err(Error::Damaged { .. })));
    }
    head.sessions.push(Arc::clone(&head.sessions[0]));
    let twice = HeadObject::parse(name, &head.encode().unwrap());
    assert!(matches!(twice, Err(Error::Damaged { .. })));

    let twice = packs.0.repeat(2);
    assert!(parse_packs(&twice, packs.1 * 2, sessions, &mut HashSet::new()).is_err());
    let mut seen = HashSet::new();
    parse_packs(&packs.0, packs.1, sessions, &mut seen).unwrap();
    assert!(parse_packs(&packs.0, packs.1, sessions, &mut seen).is_err());
}

#[tokio::test]
async fn a_table_of_packs_that_unfolds_to_more_than_256_mib_is_refused_by_reader_and_writer() {
    let (_, repository) = small_repository().await;
    let id = repository.snapshots(None).await.unwrap().snapshots[0].id().clone();
    let (name, content) = &samples().head;
    let HeadObject::Head(head) = HeadObject::parse(name, content).unwrap() else { panic!() };
    let pack = |n| {
        let name = PartName::new(Arc::clone(&head.sessions[0]), n);
        UsedPack { entry: PackEntry::for_tests(name, 65_536).into(), usage: [0; 16_384].into() }
    };
    // Pages of 4 MiB, each of which takes some KiB of the head.
    let (a_page, most) = (254, 64);
    let page = |number| {
        let mut page = Vec::new();
        let packs = (number * a_page..(number + 1) * a_page).map(pack);
        packs.for_each(|pack| put_pack(&mut page, 0, &pack));
        PackPage { entries: a_page, place: Place::Inline(encode_piece(&page)) }
    };
    let pages: Vec<_> = (0..=most).map(page).collect();
    let packs: Vec<_> = (0..a_page * (most + 1)).map(pack).collect();
    for (pages_read, is_read) in [(most, true), (most + 1, false)] {
        let pack_pages = pages[..pages_read as usize].to_vec();
        let hostile = Head { pack_pages, ..(*head).clone() };
        assert!(hostile.encode().unwrap().len() < 1024 * 1024);
        let snapshot = Snapshot::new(&repository, id.clone(), hostile, String::new());
        let mut seen = 0;
        let read = snapshot.for_each_pack(|_| seen += 1).await;
        assert_eq!((read.is_ok(), seen), (is_read, most * a_page));
        assert!(read.err().is_none_or(|error| error.to_string().contains("unfolds to too much")));
        let table = &packs[..(pages_read * a_page) as usize];
        let written = inline_pack_pages(table, &mut head.sessions.clone());
        assert_eq!(written.is_ok(), is_read);
    }
}

#[tokio::test]
async fn a_walk_through_a_table_of_streams_ends_at_4_gib() {
    let (_, repository) = small_repository().await;
    let id = repository.snapshots(None).await.unwrap().snapshots[0].id().clone();
    let (name, content) = &samples().head;
    let HeadObject::Head(head) = HeadObject::parse(name, content).unwrap() else { panic!() };
    // Each page is one stream, with a part of its recipe that fills 4 MiB.
    let page = |number: u32| {
        let first = format!("{number:06}");
        let place = Place::Inline(vec![0; PIECE as usize - 100]);
        let stream = StreamEntry {
            name: first.clone(),
            length: 0,
            digest: [0; 32],
            cutting: Cutting::default(),
            segments: vec![Segment { covers: 0, place }],
        };
        let mut page = Vec::new();
        put_stream(&mut page, "", &stream);
        StreamPage { entries: 1, first, place: Place::Inline(encode_piece(&page)) }
    };
    let pages: Vec<_> = (0..1025).map(page).collect();
    for (pages_read, is_read) in [(1024, true), (1025, false)] {
        let stream_pages = pages[..pages_read].to_vec();
        let hostile = Head { stream_pages, ..(*head).clone() };
        assert!(hostile.encode().unwrap().len() < 1024 * 1024);
        let snapshot = Snapshot::new(&repository, id.clone(), hostile, String::new());
        let mut seen = 0;
        let walked = snapshot.for_each_entry("", |_| seen += 1).await;
        assert_eq!((walked.is_ok(), seen), (is_read, 1024));
        // One stream is found without the others.
        assert!(snapshot.entry("001023").await.is_ok());
    }
}

#[test]
#[should_panic(expected = "bytes for an object of 10")]
fn a_parser_that_takes_too_much_is_noticed() {
    // An optimiser leaves out what nobody looks at.
    bounded(10, 0, || std::hint::black_box(vec![7_u8; 1 << 20]));
}

/// Panics of this test's tasks: a task that dies is only an error to its reader.
static PANICS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_hostile_objects_is_refused_without_a_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    let (store, repository) = small_repository().await;
    let inner = &repository.inner;
    let list = repository.snapshots(None).await.unwrap();
    let lost = list.snapshots[0].id().clone();
    let run = list.snapshots[1].id().clone();
    // Kinds of JSON, with a valid object of each.
    let packs = ["x".to_owned()];
    let notes = [
        (Kind::Condemned, "condemned/7".to_owned(), json!({"packs": packs, "time": day(1)})),
        (Kind::Verdict, "verdict/7".to_owned(), json!({"delete": packs, "keep": packs})),
        (
            Kind::WrittenOff,
            lost.written_off_name(),
            json!({"snapshot": lost.as_str(), "reason": "r", "time": day(1)}),
        ),
        (
            Kind::Ledger,
            format!("ledger/{}", repository.ledger_key("a", "b", "c", "7").as_str()),
            json!({"request": "u", "subject": "a/b", "time": day(1), "report": {}}),
        ),
        (
            Kind::Session,
            run.session_name(),
            json!({"kind": "Writer", "series": "s", "runId": "r", "attempt": 0, "time": day(1)}),
        ),
        (Kind::Beat, run.beat_name(0), json!({"time": day(1), "ended": true})),
    ]
    .map(|(kind, name, json)| (kind, name, json.to_string().into_bytes()));
    let heads = [&lost, &run].map(|id| {
        let name = id.head_name();
        let object = &store.objects()[&name];
        let content = open_object(&inner.keys, Kind::Snapshot, &name, object).unwrap();
        (Kind::Snapshot, name, content)
    });
    let whole = store.objects();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for (kind, name, content) in notes.iter().chain(&heads) {
        // Heads have the most to go wrong.
        for _ in 0..if *kind == Kind::Snapshot { 60 } else { 12 } {
            let changes = changes().new_tree(&mut runner).unwrap().current();
            let changed = changed_by(content, &changes);
            let object =
                seal_object(&inner.keys, &SystemEnvironment, *kind, name, &changed).unwrap();
            let hostile = Arc::new(MemoryStore::new());
            whole.iter().for_each(|(name, bytes)| hostile.overwrite(name, bytes.clone()));
            hostile.overwrite(name, object.into());
            let used = tokio::time::timeout(std::time::Duration::from_secs(60), use_all(hostile));
            used.await.unwrap_or_else(|_| panic!("{changes:?} of {name} takes for ever"));
        }
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

/// Everything that reads; what it says does not matter.
async fn use_all(store: Arc<MemoryStore>) {
    let repository = open(store).await.unwrap();
    if let Ok(list) = repository.snapshots(None).await {
        for snapshot in list.snapshots {
            let _ = restore(&snapshot).await;
            let _ = snapshot.verify_manifest().await;
        }
    }
    let _ = repository.check(CheckLevel::Data).await;
    let _ = back_up(&repository, 3, &Contents::from([("db/one".into(), noise(1, 50_000))])).await;
}
