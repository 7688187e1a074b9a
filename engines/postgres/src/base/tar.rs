//! The tar archives of `BASE_BACKUP`, as they arrive: `ustar` headers of 512 bytes, each
//! followed by the file and zeros up to the next multiple of 512
//! (`tarCreateHeader` in PostgreSQL's `src/port/tar.c`).
//!
//! In go bytes of any length, out come entries and pieces of their contents. Nothing is kept
//! but an unfinished header.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a header, and of what contents are filled up to.
const BLOCK: usize = 512;
/// Largest file: a segment has a gigabyte unless the server was built otherwise.
const MAX_FILE_BYTES: u64 = 1 << 40;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A file with so many bytes.
    File { bytes: u64 },
    /// A folder.
    Folder,
    /// A symbolic link to this place.
    Link { to: String },
}

/// One entry's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TarEntry {
    /// Its path below the archive's root: neither absolute nor with `..`, nor with `.` or
    /// empty parts.
    pub(crate) path: String,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TarPart {
    /// An entry begins. The contents of a file follow, and then [`TarPart::End`].
    Entry(TarEntry),
    /// A piece of the file's contents, never empty.
    Data(Bytes),
    /// The file is complete.
    End,
}

/// Why an archive cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TarError {
    /// No header stands where one must.
    #[error("no tar header at byte {0}: {1}")]
    Header(u64, &'static str),
    /// A path that leads elsewhere, or that is none.
    #[error("an entry has the path {0:?}")]
    Path(String),
    /// Something follows the archive's end.
    #[error("data follows the end of the archive")]
    Trailing,
    /// The archive ends within an entry.
    #[error("the archive ends within an entry")]
    Cut,
}

#[derive(Debug)]
enum State {
    Header,
    Contents {
        left: u64,
        padding: usize,
    },
    Padding(usize),
    /// A block of zeros was seen: only zeros may follow. Servers before 15 leave them out.
    Over,
}

/// Reads one archive.
#[derive(Debug)]
pub(crate) struct TarReader {
    state: State,
    waiting: VecDeque<Bytes>,
    /// A header that came in pieces.
    partial: BytesMut,
    position: u64,
}

impl Default for TarReader {
    fn default() -> Self {
        Self {
            state: State::Header,
            waiting: VecDeque::new(),
            partial: BytesMut::with_capacity(BLOCK),
            position: 0,
        }
    }
}

impl TarReader {
    /// Takes the next bytes of the archive.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.waiting.push_back(bytes);
        }
    }

    /// What the bytes so far say next; `None` until more are pushed.
    ///
    /// # Errors
    /// When they are no such archive.
    pub(crate) fn next(&mut self) -> Result<Option<TarPart>, TarError> {
        loop {
            match &mut self.state {
                State::Header => {
                    let Some(header) = self.block() else { return Ok(None) };
                    if header.iter().all(|byte| *byte == 0) {
                        self.state = State::Over;
                        continue;
                    }
                    let entry = read_header(&header, self.position - BLOCK as u64)?;
                    if let EntryKind::File { bytes } = entry.kind {
                        // The remainder of a block is less than 512.
                        let over = (bytes % BLOCK as u64) as usize;
                        let padding = if over == 0 { 0 } else { BLOCK - over };
                        self.state = State::Contents { left: bytes, padding };
                    }
                    return Ok(Some(TarPart::Entry(entry)));
                }
                State::Contents { left: 0, padding } => {
                    self.state = State::Padding(*padding);
                    return Ok(Some(TarPart::End));
                }
                State::Contents { left, .. } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let Some(piece) = take(&mut self.waiting, most) else { return Ok(None) };
                    *left -= piece.len() as u64;
                    self.position += piece.len() as u64;
                    return Ok(Some(TarPart::Data(piece)));
                }
                State::Padding(0) => self.state = State::Header,
                State::Padding(left) => {
                    let Some(piece) = take(&mut self.waiting, *left) else { return Ok(None) };
                    *left -= piece.len();
                    self.position += piece.len() as u64;
                }
                State::Over => {
                    let Some(piece) = take(&mut self.waiting, usize::MAX) else { return Ok(None) };
                    if piece.iter().any(|byte| *byte != 0) {
                        return Err(TarError::Trailing);
                    }
                    self.position += piece.len() as u64;
                }
            }
        }
    }

    /// That no more bytes come.
    ///
    /// # Errors
    /// When the archive is not complete.
    pub(crate) fn finish(self) -> Result<(), TarError> {
        let is_whole = self.waiting.is_empty()
            && self.partial.is_empty()
            && matches!(self.state, State::Header | State::Padding(0) | State::Over);
        if is_whole { Ok(()) } else { Err(TarError::Cut) }
    }

    /// The next 512 bytes, once they are there.
    fn block(&mut self) -> Option<Bytes> {
        while self.partial.len() < BLOCK {
            let piece = take(&mut self.waiting, BLOCK - self.partial.len())?;
            self.position += piece.len() as u64;
            self.partial.extend_from_slice(&piece);
        }
        Some(self.partial.split().freeze())
    }
}

/// At most so many of the bytes that wait, without copying them.
fn take(waiting: &mut VecDeque<Bytes>, most: usize) -> Option<Bytes> {
    let first = waiting.front_mut()?;
    let piece = first.split_to(most.min(first.remaining()));
    if first.is_empty() {
        waiting.pop_front();
    }
    Some(piece)
}

fn read_header(header: &[u8], at: u64) -> Result<TarEntry, TarError> {
    let bad = |why| TarError::Header(at, why);
    if &header[257..262] != b"ustar" {
        return Err(bad("it lacks the word ustar"));
    }
    // The sum of all bytes, those of the sum itself as blanks.
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = header[148..156].iter().map(|byte| u64::from(*byte)).sum();
    let told = number(&header[148..156]).ok_or_else(|| bad("its checksum is no number"))?;
    if sum - own + 8 * u64::from(b' ') != told {
        return Err(bad("its checksum is wrong"));
    }
    let path = clean_path(text(&header[..100])?)?;
    let mode = number(&header[100..108]).ok_or_else(|| bad("its mode is no number"))?;
    let bytes = number(&header[124..136]).ok_or_else(|| bad("its size is no number"))?;
    let kind = match header[156] {
        b'0' | 0 if bytes <= MAX_FILE_BYTES => EntryKind::File { bytes },
        b'0' | 0 => return Err(bad("its size is too large")),
        b'5' => EntryKind::Folder,
        b'2' => EntryKind::Link { to: text(&header[157..257])? },
        _ => return Err(bad("it is of an unknown kind")),
    };
    if kind_has_no_bytes(&kind) && bytes != 0 {
        return Err(bad("it has a size, and no contents"));
    }
    // Twelve bits are what a mode has.
    Ok(TarEntry { path, kind, mode: (mode & 0o7777) as u32 })
}

fn kind_has_no_bytes(kind: &EntryKind) -> bool {
    !matches!(kind, EntryKind::File { .. })
}

/// Octal digits, or, from 8 GiB on, a number in base 256 (`print_tar_number`).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (first, rest) = field.split_first()?;
        let start = u64::from(first & 0x7f);
        return rest
            .iter()
            .try_fold(start, |sum, byte| sum.checked_mul(256).map(|sum| sum + u64::from(*byte)));
    }
    let is_end = |byte: &u8| matches!(byte, 0 | b' ');
    let digits: Vec<u8> = field.iter().copied().take_while(|byte| !is_end(byte)).collect();
    if digits.is_empty() {
        return None;
    }
    digits.into_iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8).map(|sum| sum + u64::from(digit - b'0')),
        _ => None,
    })
}

fn text(field: &[u8]) -> Result<String, TarError> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = std::str::from_utf8(&field[..end]);
    text.map(str::to_owned)
        .map_err(|_| TarError::Path(String::from_utf8_lossy(&field[..end]).into_owned()))
}

/// Without `./` before it and `/` behind it, as the server writes both.
fn clean_path(path: String) -> Result<String, TarError> {
    let inner = path.strip_prefix("./").unwrap_or(&path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_plain = |part: &str| !part.bytes().any(|byte| byte < b' ' || byte == b'\\');
    if inner.split('/').all(|part| is_part(part) && is_plain(part)) {
        return Ok(inner.to_owned());
    }
    Err(TarError::Path(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(path: &str, kind: u8, bytes: u64, link: &str) -> Vec<u8> {
        let mut header = vec![0_u8; BLOCK];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..108].copy_from_slice(b"0000600\0");
        header[124..136].copy_from_slice(format!("{bytes:011o}\0").as_bytes());
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut header);
        header
    }

    fn seal(header: &mut [u8]) {
        header[148..156].copy_from_slice(b"        ");
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    fn file(path: &str, contents: &[u8]) -> Vec<u8> {
        let mut all = header(path, b'0', contents.len() as u64, "");
        all.extend_from_slice(contents);
        all.resize(all.len().next_multiple_of(BLOCK), 0);
        all
    }

    /// Paths and contents, however the bytes are cut.
    fn read(archive: &[u8], cuts: &[usize]) -> Result<Vec<(TarEntry, Vec<u8>)>, TarError> {
        let (mut reader, mut read, mut rest) = (TarReader::default(), Vec::new(), archive);
        let mut cuts = cuts.iter().copied().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().unwrap_or(rest.len()).clamp(1, rest.len());
            reader.push(Bytes::copy_from_slice(&rest[..cut]));
            rest = &rest[cut..];
            while let Some(part) = reader.next()? {
                match part {
                    TarPart::Entry(entry) => read.push((entry, Vec::new())),
                    TarPart::Data(piece) => read.last_mut().unwrap().1.extend_from_slice(&piece),
                    TarPart::End => {}
                }
            }
        }
        reader.finish()?;
        Ok(read)
    }

    #[test]
    fn files_folders_and_links_are_read_with_and_without_an_end() {
        let mut archive = file("backup_label", b"START WAL LOCATION: 0/2000028\n");
        archive.extend(header("./pg_wal/archive_status/", b'5', 0, ""));
        archive.extend(header("pg_tblspc/16400", b'2', 0, "/srv/fast"));
        archive.extend(file("base/1/1259", &[7; 8192]));
        archive.extend(file("base/1/empty", b""));
        for end in [0, 2 * BLOCK] {
            let mut archive = archive.clone();
            archive.resize(archive.len() + end, 0);
            let found = read(&archive, &[100]).unwrap();
            let paths: Vec<_> = found.iter().map(|(entry, _)| entry.path.as_str()).collect();
            assert_eq!(
                paths,
                [
                    "backup_label",
                    "pg_wal/archive_status",
                    "pg_tblspc/16400",
                    "base/1/1259",
                    "base/1/empty"
                ]
            );
            assert_eq!(found[1].0.kind, EntryKind::Folder);
            assert_eq!(found[2].0.kind, EntryKind::Link { to: "/srv/fast".into() });
            assert_eq!((found[3].1.len(), found[3].0.mode), (8192, 0o600));
        }
    }

    #[test]
    fn a_size_from_8_gib_on_is_in_base_256() {
        let mut large = header("base/1/1259", b'0', 0, "");
        large[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]);
        seal(&mut large);
        let mut reader = TarReader::default();
        reader.push(large.into());
        let Some(TarPart::Entry(entry)) = reader.next().unwrap() else { panic!() };
        assert_eq!(entry.kind, EntryKind::File { bytes: (2 << 32) + 1 });
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["/etc/passwd", "../x", "base/../../x", "base//x", "a/./b", "", ".", "a\nb"] {
            let archive = file(path, b"x");
            assert_eq!(read(&archive, &[512]), Err(TarError::Path(path.into())), "{path}");
        }
    }

    #[test]
    fn what_is_no_archive_or_not_whole_is_refused() {
        let whole = file("base/1/1259", &[1; 1000]);
        for cut in 1..whole.len() {
            assert_eq!(read(&whole[..cut], &[333]), Err(TarError::Cut), "{cut}");
        }
        let mut wrong = whole.clone();
        wrong[3] ^= 1;
        assert!(matches!(read(&wrong, &[700]), Err(TarError::Header(0, _))));
        let mut trailing = whole;
        trailing.resize(trailing.len() + 2 * BLOCK, 0);
        trailing.push(1);
        assert_eq!(read(&trailing, &[700]), Err(TarError::Trailing));
        assert!(matches!(read(&[9; 512], &[512]), Err(TarError::Header(0, _))));
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_give_the_same(
            contents in proptest::collection::vec(any::<u8>(), 0..3000),
            cuts in proptest::collection::vec(1_usize..2000, 1..20),
        ) {
            let mut archive = file("a", &contents);
            archive.extend(file("b", &contents));
            let found = read(&archive, &cuts).unwrap();
            prop_assert_eq!(found.len(), 2);
            for (_, read) in found {
                prop_assert_eq!(&read, &contents);
            }
        }

        #[test]
        fn noise_ends_in_an_error_or_in_nothing(noise in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let _ = read(&noise, &[777]);
        }
    }
}
