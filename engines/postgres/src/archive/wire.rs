//! Numbers and strings as the archive writes them (`pg_backup_archiver.c`:
//! `WriteInt`, `WriteStr`).
//!
//! A number is a sign byte and `int_size` bytes, the lowest first; a string is
//! a number, its length, and bytes; length −1 is no string.

use super::ArchiveError;

/// Longest string that is believed, in bytes: the server has none of more than
/// 1 GiB. How much is kept is bounded by whoever reads.
const MAX_STRING_BYTES: usize = 1024 * 1024 * 1024;

/// Bytes that have arrived, read from the front.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    int_size: usize,
}

/// Why a value cannot be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// Its end has not arrived yet.
    Short,
    /// It is not what an archive may hold.
    Bad(ArchiveError),
}

/// What was read; `None` where its end has not arrived yet.
pub(super) fn arrived<T>(read: Result<T, Unread>) -> Result<Option<T>, ArchiveError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Unread::Short) => Ok(None),
        Err(Unread::Bad(error)) => Err(error),
    }
}

impl From<ArchiveError> for Unread {
    fn from(error: ArchiveError) -> Self {
        Self::Bad(error)
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], int_size: usize) -> Self {
        Self { bytes, position: 0, int_size }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn set_int_size(&mut self, int_size: usize) {
        self.int_size = int_size;
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Unread> {
        let end = self.position.checked_add(count).ok_or(Unread::Short)?;
        let taken = self.bytes.get(self.position..end).ok_or(Unread::Short)?;
        self.position = end;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Unread> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn int(&mut self) -> Result<i64, Unread> {
        Ok(decode_int(self.take(1 + self.int_size)?)?)
    }

    pub(super) fn string(&mut self) -> Result<Option<&'a [u8]>, Unread> {
        let length = self.int()?;
        if length < 0 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(length) if length <= MAX_STRING_BYTES => Ok(Some(self.take(length)?)),
            _ => Err(Unread::Bad(ArchiveError::Damaged(format!("a string of {length} bytes")))),
        }
    }

    pub(super) fn text(&mut self) -> Result<Option<String>, Unread> {
        Ok(self.string()?.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// Reads a number: its sign byte and its bytes, eight at most.
///
/// Only what `WriteInt` writes is taken, so that writing it again gives the
/// same bytes.
pub(super) fn decode_int(bytes: &[u8]) -> Result<i64, ArchiveError> {
    let (sign, digits) = (bytes[0], &bytes[1..]);
    let mut wide = [0; 8];
    wide[..digits.len()].copy_from_slice(digits);
    let size = u64::from_le_bytes(wide);
    let odd = || ArchiveError::Damaged("a number that pg_dump never writes".to_owned());
    let size = i64::try_from(size).map_err(|_| odd())?;
    match (sign, size) {
        (0, _) => Ok(size),
        (1, 1..) => Ok(-size),
        _ => Err(odd()),
    }
}

/// Writes a number as [`decode_int`] reads it.
pub(super) fn encode_int(value: i64, int_size: usize, out: &mut Vec<u8>) {
    out.push(u8::from(value < 0));
    out.extend_from_slice(&value.unsigned_abs().to_le_bytes()[..int_size]);
}

/// Writes a string as [`Cursor::string`] reads it.
pub(super) fn encode_string(text: &[u8], int_size: usize, out: &mut Vec<u8>) {
    // A length of more than 64 bits is none.
    encode_int(i64::try_from(text.len()).unwrap_or(i64::MAX), int_size, out);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_and_odd_ones_are_refused() {
        for value in [0, 1, -1, 255, 65_536, i64::from(i32::MAX), -i64::from(i32::MAX)] {
            let mut bytes = Vec::new();
            encode_int(value, 4, &mut bytes);
            assert_eq!(decode_int(&bytes).unwrap(), value);
        }
        assert!(decode_int(&[1, 0, 0, 0, 0]).is_err(), "minus zero");
        assert!(decode_int(&[2, 1, 0, 0, 0]).is_err(), "a sign of two");
    }
}
