//! Cutting a stream into chunks: FastCDC 2020 (Xia and others, "The Design of
//! Fast Content-Defined Chunking for Data Deduplication Based Storage Systems",
//! IEEE TPDS 2020), by the crate `fastcdc`; or at fixed places, where the stream
//! is made of pages that change in place.

use fastcdc::v2020::{Normalization, cut, select_masks};

use crate::wire::Malformed;
use crate::{Error, Result};

const ALGORITHM_FIXED: u8 = 0;
const ALGORITHM_FASTCDC: u8 = 1;
/// Largest chunk is the average times four, smallest a quarter of it.
const SPREAD: u8 = 2;

/// How a stream is cut. The sizes are powers of two: the crate's cuts of other
/// sizes have changed between its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutting {
    algorithm: u8,
    smallest: u8,
    average: u8,
    largest: u8,
}

impl Default for Cutting {
    /// 8 KiB on average: the size that stores the least of the next day's dump.
    fn default() -> Self {
        Self::content(13)
    }
}

impl Cutting {
    /// Chunks of `average` bytes, a power of two from 4 KiB to 256 KiB.
    ///
    /// # Errors
    /// For any other number.
    pub fn average(average: u32) -> Result<Self> {
        Ok(Self::content(log2(average)?))
    }

    /// Chunks of exactly `length` bytes, a power of two from 4 KiB to 256 KiB: the
    /// page of a server's data files (PostgreSQL 8 KiB, InnoDB 16 KiB).
    ///
    /// # Errors
    /// For any other number.
    pub fn fixed(length: u32) -> Result<Self> {
        let length = log2(length)?;
        Ok(Self { algorithm: ALGORITHM_FIXED, smallest: length, average: length, largest: length })
    }

    fn content(average: u8) -> Self {
        let (smallest, largest) = (average - SPREAD, average + SPREAD);
        Self { algorithm: ALGORITHM_FASTCDC, smallest, average, largest }
    }

    pub(crate) fn to_bytes(self) -> [u8; 4] {
        [self.algorithm, self.smallest, self.average, self.largest]
    }

    pub(crate) fn from_bytes(bytes: [u8; 4]) -> std::result::Result<Self, Malformed> {
        let [algorithm, smallest, average, largest] = bytes;
        // Readers do not cut, so that any algorithm will do.
        if algorithm > ALGORITHM_FASTCDC || smallest > average || average > largest || largest > 20
        {
            return Err(Malformed("a stream was cut in an unknown way"));
        }
        Ok(Self { algorithm, smallest, average, largest })
    }

    /// Bytes of the largest chunk.
    pub(crate) fn largest(self) -> usize {
        1 << self.largest
    }

    /// Cuts `bytes` and appends each chunk's length. A chunk that more bytes
    /// could make longer is left for the next call, unless this `is_end`.
    /// Returns how many bytes were cut.
    pub(crate) fn cut(self, bytes: &[u8], is_end: bool, lengths: &mut Vec<u32>) -> usize {
        if self.algorithm == ALGORITHM_FIXED {
            return self.cut_fixed(bytes.len(), is_end, lengths);
        }
        let (smallest, average, largest) =
            (1 << self.smallest, 1 << self.average, 1 << self.largest);
        let (mask_s, mask_l) = select_masks(average, Normalization::Level1);
        let mut done = 0;
        while done < bytes.len() && (is_end || bytes.len() - done >= largest) {
            let rest = &bytes[done..];
            let (_, length) =
                cut(rest, smallest, average, largest, mask_s, mask_l, mask_s << 1, mask_l << 1);
            lengths.push(length as u32);
            done += length;
        }
        done
    }

    fn cut_fixed(self, bytes: usize, is_end: bool, lengths: &mut Vec<u32>) -> usize {
        let length = 1 << self.average;
        lengths.extend(std::iter::repeat_n(length as u32, bytes / length));
        let rest = bytes % length;
        if is_end && rest > 0 {
            lengths.push(rest as u32);
            return bytes;
        }
        bytes - rest
    }
}

fn log2(length: u32) -> Result<u8> {
    if length.is_power_of_two() && (4096..=256 * 1024).contains(&length) {
        return Ok(length.ilog2() as u8);
    }
    Err(Error::Misuse(format!(
        "chunks of {length} bytes: it must be a power of two from 4 KiB to 256 KiB"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that look random and are the same everywhere (SplitMix64).
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut x = state;
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (x ^ (x >> 31)).to_le_bytes()
        })
        .flatten()
        .take(length)
        .collect()
    }

    fn cut_whole(bytes: &[u8]) -> Vec<u32> {
        let mut lengths = Vec::new();
        assert_eq!(Cutting::default().cut(bytes, true, &mut lengths), bytes.len());
        lengths
    }

    #[test]
    fn cuts_are_golden_and_those_of_the_crates_own_iterator() {
        let bytes = noise(200_000);
        let lengths = cut_whole(&bytes);
        let iterator: Vec<u32> = fastcdc::v2020::FastCDC::new(&bytes, 2048, 8192, 32_768)
            .map(|chunk| chunk.length as u32)
            .collect();
        assert_eq!(lengths, iterator);
        assert_eq!(lengths, GOLDEN);
    }

    #[test]
    fn pages_are_cut_at_their_borders_and_the_end_may_be_shorter() {
        let pages = Cutting::fixed(8192).unwrap();
        let mut lengths = Vec::new();
        assert_eq!(pages.cut(&[0; 20_000], false, &mut lengths), 16_384);
        assert_eq!(pages.cut(&[0; 20_000 - 16_384], true, &mut lengths), 20_000 - 16_384);
        assert_eq!(lengths, [8192, 8192, 20_000 - 16_384]);
        assert!(Cutting::fixed(10_000).is_err() && Cutting::fixed(512 * 1024).is_err());
        assert_eq!(Cutting::from_bytes(pages.to_bytes()).unwrap(), pages);
    }

    /// Cuts of `fastcdc` 5.0.0. Another library or version must give the same, or
    /// nothing of older backups is found again.
    const GOLDEN: &[u32] = &[
        9128, 12320, 6680, 8779, 8682, 10046, 11642, 8934, 11551, 20476, 17249, 7137, 11743, 7693,
        8515, 11992, 9654, 3756, 4440, 2386, 7197,
    ];

    proptest! {
        #[test]
        fn cuts_do_not_depend_on_how_the_bytes_arrive(
            length in 0..300_000_usize, step in 1..100_000_usize, fixed: bool,
        ) {
            let cutting = if fixed { Cutting::fixed(8192).unwrap() } else { Cutting::default() };
            let bytes = noise(length);
            let mut lengths = Vec::new();
            let (mut from, mut to) = (0, 0);
            while to < length {
                to = (to + step).min(length);
                from += cutting.cut(&bytes[from..to], to == length, &mut lengths);
            }
            prop_assert_eq!(from, length);
            let mut whole = Vec::new();
            cutting.cut(&bytes, true, &mut whole);
            prop_assert_eq!(lengths, whole);
        }
    }
}
