use std::collections::BTreeMap;

use dbbackup_contract::{Failure, Reason};
use proptest::prelude::*;

use super::super::join::{BlockJoiner, PreludeJoiner, block_header, check_layout};
use super::super::wire::encode_int;
use super::*;

/// An archive as `pg_dump` writes it, from nothing but its description.
struct Writer {
    out: Vec<u8>,
    minor: u8,
}

impl Writer {
    fn new(minor: u8, entries: usize) -> Self {
        let mut writer = Self { out: Vec::new(), minor };
        writer.out.extend_from_slice(b"PGDMP");
        writer.out.extend_from_slice(&[1, minor, 0, 4, 8, 1]);
        if minor >= 15 {
            writer.out.push(0)
        } else {
            writer.int(0)
        }
        for number in [3, 2, 1, 23, 10, 126, 0] {
            writer.int(number);
        }
        for text in ["shop", "17.11 (Debian)", "17.11"] {
            writer.string(Some(text));
        }
        writer.int(i64::try_from(entries).unwrap());
        writer
    }

    fn int(&mut self, value: i64) {
        encode_int(value, 4, &mut self.out);
    }

    fn string(&mut self, text: Option<&str>) {
        match text {
            None => self.int(-1),
            Some(text) => {
                self.int(i64::try_from(text.len()).unwrap());
                self.out.extend_from_slice(text.as_bytes());
            }
        }
    }

    fn entry(&mut self, id: i64, data: bool, tag: &str, description: &str, owner: &str) {
        self.int(id);
        self.int(i64::from(data));
        self.string(Some("1259"));
        self.string(Some("16384"));
        self.string(Some(tag));
        self.string(Some(description));
        self.int(3);
        self.string(Some("CREATE …"));
        self.string(None);
        self.string(Some("COPY …"));
        self.string(Some("public"));
        self.string(Some(""));
        self.string(None);
        if self.minor >= 16 {
            self.int(114);
        }
        self.string(Some(owner));
        self.string(Some("false"));
        self.string(Some("12"));
        self.string(None);
        self.out.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn frame(&mut self, data: &[u8]) {
        self.int(i64::try_from(data.len()).unwrap());
        self.out.extend_from_slice(data);
    }

    fn table(&mut self, id: i64, rows: &[Vec<u8>]) {
        self.out.push(1);
        self.int(id);
        for row in rows {
            self.frame(row);
        }
        self.frame(b"\\.\n\n\n");
        self.int(0);
    }
}

impl Writer {
    fn large_objects(&mut self, id: i64, objects: &[Vec<u8>]) {
        self.out.push(3);
        self.int(id);
        for (n, object) in objects.iter().enumerate() {
            self.int(16_500 + i64::try_from(n).unwrap());
            // As pg_dump: pieces of a fixed size, none for an empty object.
            object.chunks(10).for_each(|piece| self.frame(piece));
            self.int(0);
        }
        self.int(0);
    }
}

fn sample(minor: u8) -> Vec<u8> {
    let mut writer = Writer::new(minor, 6);
    writer.entry(1, false, "ENCODING", "ENCODING", "");
    writer.entry(2, false, "hstore", "EXTENSION", "");
    writer.entry(7, true, "a", "TABLE DATA", "alice");
    writer.entry(9, true, "b/../c", "TABLE DATA", "bob");
    writer.entry(11, true, "BLOBS", "BLOBS", "alice");
    writer.entry(12, false, "SCHEMA public", "ACL", "pg_database_owner");
    writer.table(7, &[b"1\tx\n".to_vec(), b"2\ty\n".to_vec()]);
    writer.table(9, &[]);
    writer.large_objects(11, &[b"hello\n".to_vec()]);
    writer.out
}

/// Pushes an archive in pieces of `size`; how many bytes were taken until it was refused.
fn refused_after(archive: &[u8], size: usize, limits: Limits) -> (usize, ArchiveError) {
    let mut splitter = Splitter { limits, ..Splitter::new("databases/shop/") };
    let mut taken = 0;
    for piece in archive.chunks(size) {
        taken += piece.len();
        if let Err(error) = splitter.push(Bytes::copy_from_slice(piece), &mut Vec::new()) {
            return (taken, error);
        }
    }
    panic!("all {taken} bytes were taken");
}

#[test]
fn an_entry_without_end_is_refused_before_it_fills_the_memory() {
    let limits = Limits { entry_bytes: 100_000, ..LIMITS };
    let mut long = Writer::new(16, 1);
    long.entry(1, false, &"x".repeat(1_000_000), "COMMENT", "");
    let mut many = Writer::new(16, 1);
    many.entry(1, false, "x", "COMMENT", "");
    many.out.truncate(many.out.len() - 14);
    (0..200_000).for_each(|_| many.string(Some("12")));
    for writer in [long, many] {
        for size in [1000, 30_000, writer.out.len()] {
            let (taken, error) = refused_after(&writer.out, size, limits);
            assert!(matches!(error, ArchiveError::TooLarge(_)), "{error}");
            assert_eq!(error.to_string(), "the archive has an entry of more than 97 KiB");
            assert!(taken <= 100_200 + size, "{taken} bytes by {size}");
            assert_eq!(Failure::from(error).reason, Reason::ArchiveUnsupported);
        }
    }
    // A length that no server has is no question of memory.
    let mut absurd = Writer::new(16, 1);
    absurd.int(1);
    absurd.int(0);
    absurd.int(2_000_000_000);
    let (_, error) = refused_after(&absurd.out, 1000, limits);
    assert!(matches!(error, ArchiveError::Damaged(_)), "{error}");
}

#[test]
fn a_table_of_contents_without_end_is_refused_before_it_fills_the_memory() {
    let limits = Limits { kept_bytes: 1_000_000, ..LIMITS };
    let entries = 100_000;
    // Tables, or nothing but owners: both are kept.
    for data in [true, false] {
        let mut writer = Writer::new(15, entries);
        for n in 0..entries {
            writer.entry(n as i64, data, &format!("t{n}"), "TABLE DATA", &format!("role {n}"));
        }
        let (taken, error) = refused_after(&writer.out, 1000, limits);
        assert_eq!(error.to_string(), "the archive has a table of contents of more than 976 KiB");
        assert!(taken < writer.out.len() / 2, "{taken} of {}", writer.out.len());
    }
}

#[test]
fn what_is_kept_is_what_it_takes() {
    let entries = 1000;
    let mut writer = Writer::new(15, entries);
    for n in 0..entries {
        writer.entry(n as i64, true, &format!("table number {n}"), "TABLE DATA", "alice");
    }
    let mut splitter = Splitter::new("databases/shop/");
    splitter.push(writer.out.into(), &mut Vec::new()).unwrap();
    let names = |layout: &BlockLayout| layout.stream.len() + layout.name.len() + "public".len();
    let heap: usize = splitter.expected.iter().map(|block| names(&block.layout)).sum();
    let fixed = entries * (size_of::<Expected>() + size_of::<usize>() + 64);
    assert!(splitter.kept >= heap + fixed, "{} of {}", splitter.kept, heap + fixed);
    assert!(splitter.kept / entries < 500, "{} bytes a table", splitter.kept / entries);
}

type Streams = BTreeMap<String, Vec<u8>>;

fn split(
    archive: &[u8],
    sizes: &mut dyn FnMut() -> usize,
) -> Result<(Streams, Layout), ArchiveError> {
    let mut splitter = Splitter::new("databases/shop/");
    let (mut streams, mut open) = (Streams::new(), None);
    let mut rest = Bytes::copy_from_slice(archive);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let size = sizes().clamp(1, rest.len());
        splitter.push(rest.split_to(size), &mut pieces)?;
        for piece in pieces.drain(..) {
            match piece {
                Piece::Begin(Target::Prelude { stream } | Target::Block { stream, .. }) => {
                    assert!(open.is_none());
                    assert!(streams.insert(stream.clone(), Vec::new()).is_none(), "{stream} twice");
                    open = Some(stream);
                }
                Piece::Bytes(bytes) => {
                    streams.get_mut(open.as_ref().unwrap()).unwrap().extend_from_slice(&bytes);
                }
                Piece::End => open = None,
            }
        }
    }
    Ok((streams, splitter.finish()?))
}

fn join(streams: &Streams, layout: &Layout) -> Result<Vec<u8>, ArchiveError> {
    check_layout(layout)?;
    let mut out = Vec::new();
    let mut prelude = PreludeJoiner::new(layout);
    for piece in streams[&layout.prelude.stream].chunks(7) {
        prelude.push(Bytes::copy_from_slice(piece), &mut out);
    }
    prelude.finish()?;
    for block in &layout.blocks {
        out.push(block_header(block, layout.int_size));
        let mut joiner = BlockJoiner::new(block, layout.int_size);
        for piece in streams[&block.stream].chunks(5) {
            joiner.push(piece)?;
            out.push(Bytes::copy_from_slice(piece));
        }
        joiner.finish()?;
    }
    Ok(out.concat())
}

#[test]
fn tables_of_every_known_format_get_streams_rows_and_digests() {
    for minor in [14, 15, 16] {
        let (streams, layout) = split(&sample(minor), &mut || usize::MAX).unwrap();
        let names: Vec<_> = streams.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "databases/shop/large-objects/BLOBS",
                "databases/shop/prelude",
                "databases/shop/tables/public/a",
                "databases/shop/tables/public/b%2F..%2Fc",
            ]
        );
        let a = &layout.blocks[0];
        assert_eq!((a.rows, a.data_bytes), (2, 8));
        // printf '1\tx\n2\ty\n' | sha256sum
        assert_eq!(a.sha256, hex(&Sha256::digest(b"1\tx\n2\ty\n")));
        assert_eq!((layout.blocks[1].rows, layout.blocks[2].rows), (0, 1));
        assert_eq!(layout.needs.owners, ["alice", "bob"], "privileges make nothing");
        assert_eq!(layout.needs.extensions, ["hstore"]);
        assert_eq!(layout.needs.objects, 5);
        assert_eq!(layout.rows(), 2);
    }
}

#[test]
fn the_same_schema_on_another_day_has_the_same_prelude() {
    let monday = sample(16);
    let mut tuesday = monday.clone();
    // The first number of the date stands after eleven bytes and the algorithm.
    assert_eq!(tuesday[13], 3);
    tuesday[13] = 44;
    let (one, one_layout) = split(&monday, &mut || 64).unwrap();
    let (two, two_layout) = split(&tuesday, &mut || 64).unwrap();
    assert_eq!(one, two);
    assert_ne!(one_layout, two_layout);
    assert_eq!(join(&two, &two_layout).unwrap(), tuesday);
}

#[test]
fn an_archive_cut_anywhere_is_noticed() {
    let archive = sample(16);
    for length in 0..archive.len() {
        let error = split(&archive[..length], &mut || 16).unwrap_err();
        assert!(matches!(error, ArchiveError::Cut(_)), "{length}: {error}");
    }
}

#[test]
fn other_formats_and_compressed_archives_are_refused() {
    let refused = |at: usize, value: u8| {
        let mut archive = sample(16);
        archive[at] = value;
        let error = split(&archive, &mut || usize::MAX).unwrap_err();
        assert!(matches!(error, ArchiveError::Unsupported(_)), "{error}");
    };
    refused(0, b'X');
    refused(6, 13);
    refused(6, 17);
    refused(8, 2);
    refused(10, 3);
    refused(11, 1);
}

#[test]
fn a_hostile_length_is_refused_and_not_waited_for() {
    let mut writer = Writer::new(16, 1);
    writer.int(1);
    writer.int(1);
    writer.int(i64::from(i32::MAX));
    let error = split(&writer.out, &mut || usize::MAX).unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged(_)), "{error}");
}

#[test]
fn every_flipped_bit_of_a_stream_is_noticed_when_joining() {
    let (streams, layout) = split(&sample(16), &mut || usize::MAX).unwrap();
    for (name, bytes) in &streams {
        for at in 0..bytes.len() {
            let mut damaged = streams.clone();
            damaged.get_mut(name).unwrap()[at] ^= 1;
            assert!(join(&damaged, &layout).is_err(), "{name} at {at}");
        }
    }
}

proptest! {
    #[test]
    fn an_archive_joins_again_byte_for_byte_however_it_arrives(
        minor in 14_u8..=16,
        tables in proptest::collection::vec(
            proptest::collection::vec("[a-z\\\\\t.]{0,40}\n", 0..6), 0..5),
        objects in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..30), 0..5),
        sizes in proptest::collection::vec(1_usize..200, 1..20),
    ) {
        let mut writer = Writer::new(minor, tables.len() + 1);
        for (n, _) in tables.iter().enumerate() {
            writer.entry(n as i64 + 3, true, &format!("t{n}"), "TABLE DATA", "o");
        }
        writer.entry(2, true, "BLOBS", "BLOBS", "o");
        for (n, rows) in tables.iter().enumerate() {
            let rows: Vec<_> = rows.iter().map(|row| row.clone().into_bytes()).collect();
            writer.table(n as i64 + 3, &rows);
        }
        writer.large_objects(2, &objects);
        let mut sizes = sizes.into_iter().cycle();
        let (streams, layout) = split(&writer.out, &mut || sizes.next().unwrap()).unwrap();
        prop_assert_eq!(layout.blocks.last().unwrap().rows, objects.len() as u64);
        for (block, rows) in layout.blocks.iter().zip(&tables) {
            prop_assert_eq!(block.rows, rows.len() as u64);
            prop_assert_eq!(&block.sha256, &hex(&Sha256::digest(rows.concat().as_bytes())));
        }
        prop_assert_eq!(join(&streams, &layout).unwrap(), writer.out);
    }

    #[test]
    fn noise_is_never_believed(noise in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..300) {
        let mut archive = sample(16);
        let at = at.min(archive.len());
        archive.truncate(at);
        archive.extend_from_slice(&noise);
        if let Ok((streams, layout)) = split(&archive, &mut || 50) {
            prop_assert_eq!(join(&streams, &layout).unwrap(), archive);
        }
    }
}
