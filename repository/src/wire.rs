//! Numbers and texts of the format's tables (`docs/format.md`, "Numbers"),
//! read with bounds: the bytes may come from anybody.

/// What does not fit the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

type Parsed<T> = std::result::Result<T, Malformed>;

/// Appends an unsigned LEB128.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number, small magnitudes first.
pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and so many bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes a structure apart from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses bytes behind the structure.
    pub(crate) fn end(&self) -> Parsed<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes behind the end")) }
    }

    pub(crate) fn take(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed("it ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed("it ends early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Parsed<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn varint(&mut self) -> Parsed<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return Err(Malformed("a number is too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(Malformed("a number is longer than needed"));
                }
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
    }

    /// A number of at most `max`.
    pub(crate) fn bounded(&mut self, max: u64) -> Parsed<u64> {
        let value = self.varint()?;
        if value > max { Err(Malformed("a number exceeds its bound")) } else { Ok(value) }
    }

    /// A count of at most `max`, for use in memory.
    pub(crate) fn count(&mut self, max: usize) -> Parsed<usize> {
        // No target of ours has a usize of more than 64 bits.
        Ok(self.bounded(max as u64)? as usize)
    }

    /// A number of 32 bits.
    pub(crate) fn small(&mut self) -> Parsed<u32> {
        Ok(self.bounded(u64::from(u32::MAX))? as u32)
    }

    pub(crate) fn zigzag(&mut self) -> Parsed<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn bytes(&mut self, max: usize) -> Parsed<&'a [u8]> {
        let length = self.count(max)?;
        self.take(length)
    }

    pub(crate) fn text(&mut self, max: usize) -> Parsed<&'a str> {
        std::str::from_utf8(self.bytes(max)?).map_err(|_| Malformed("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_texts_survive(value: u64, signed: i64, text: String) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_zigzag(&mut out, signed);
            put_bytes(&mut out, text.as_bytes());
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.zigzag(), Ok(signed));
            prop_assert_eq!(reader.text(1 << 20), Ok(text.as_str()));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn hostile_bytes_give_an_error_or_a_number_that_writes_the_same_bytes(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&bytes[..out.len()], &out[..]);
            }
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_before_anything_is_allocated() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert!(Reader::new(&out).bytes(usize::MAX).is_err());
        assert!(Reader::new(&[0x80, 0x00]).varint().is_err(), "longer than needed");
        assert!(Reader::new(&[0xFF; 11]).varint().is_err());
    }
}
