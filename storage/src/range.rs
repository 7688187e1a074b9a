//! A range of an object over HTTP, as a driver asks for it and judges what came.

use std::ops::Range;

use bytes::Bytes;

use crate::{Error, ErrorKind, MAX_OBJECT_BYTES, Operation, Result};

/// A range that an object may have.
#[derive(Clone, Debug)]
pub struct AskedRange<'a> {
    name: &'a str,
    range: Range<u64>,
    length: usize,
}

impl<'a> AskedRange<'a> {
    /// The bytes `range` of the object `name`.
    ///
    /// # Errors
    /// `Truncated` if no object has them.
    pub fn new(name: &'a str, range: Range<u64>) -> Result<Self> {
        let length = range.end.checked_sub(range.start).and_then(|length| length.try_into().ok());
        match length.filter(|length: &usize| *length <= MAX_OBJECT_BYTES) {
            Some(length) => Ok(Self { name, range, length }),
            None => {
                let detail = format!("no object has bytes {} to {}", range.start, range.end);
                Err(Error::new(ErrorKind::Truncated, Operation::Read, name, detail))
            }
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// What the header `Range` asks for. HTTP has no empty ranges.
    #[must_use]
    pub fn header(&self) -> String {
        format!("bytes={}-{}", self.range.start, self.range.end - 1)
    }

    /// An empty range of an object of this size: the object may be shorter all the same.
    ///
    /// # Errors
    /// `Truncated` if it is.
    pub fn nothing_of(&self, size: u64) -> Result<Bytes> {
        if self.range.end <= size {
            return Ok(Bytes::new());
        }
        Err(self.short(format!("{size} bytes end before byte {}", self.range.end)))
    }

    /// Judges the header `Content-Range` of an answer.
    ///
    /// # Errors
    /// `Unsuitable` if another range came.
    pub fn begins(&self, given: &str) -> Result<()> {
        if given.starts_with(&format!("bytes {}-", self.range.start)) {
            return Ok(());
        }
        let detail = format!("bytes {:?} were asked for, {given:?} came", self.range);
        Err(Error::new(ErrorKind::Unsuitable, Operation::Read, self.name, detail))
    }

    /// What came with this `Content-Range`, if it is all.
    ///
    /// # Errors
    /// `Truncated` if the object ends before.
    pub fn whole(&self, given: &str, bytes: Bytes) -> Result<Bytes> {
        if bytes.len() < self.length {
            return Err(self.short(format!("it ends before byte {}: {given}", self.range.end)));
        }
        Ok(bytes)
    }

    fn short(&self, detail: String) -> Error {
        Error::new(ErrorKind::Truncated, Operation::Read, self.name, detail)
    }
}
