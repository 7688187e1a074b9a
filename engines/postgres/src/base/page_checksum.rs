//! Checksums of pages: `pg_checksum_page` of PostgreSQL's
//! `src/include/storage/checksum_impl.h`, an FNV-1a in 32 lanes with one more shift.

use super::relation_file::PAGE_BYTES;

const LANES: usize = 32;
const PRIME: u32 = 16_777_619;

/// What the lanes begin with (`checksumBaseOffsets`).
const OFFSETS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// What a page says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageState {
    /// Its checksum is right.
    Good,
    /// All zeros: it was added, and not written yet.
    New,
    /// Its checksum is wrong, or it says that it is new and is not empty. `lsn` is the
    /// position in the log that it claims to have been changed at last.
    Bad { lsn: u64 },
}

/// Looks at a page of a server with checksums; `number` counts the fork's pages over all segments.
pub(crate) fn look_at(page: &[u8; PAGE_BYTES], number: u32) -> PageState {
    let lsn = (u64::from(word(page, 0)) << 32) | u64::from(word(page, 4));
    // `pd_upper` of a new page is 0 (`PageIsNew`).
    if page[14..16] == [0, 0] {
        return match page.iter().all(|byte| *byte == 0) {
            true => PageState::New,
            false => PageState::Bad { lsn },
        };
    }
    let told = u16::from_le_bytes([page[8], page[9]]);
    if checksum(page, number) == told { PageState::Good } else { PageState::Bad { lsn } }
}

/// The checksum that a page should have. Its own field counts as zero.
pub(crate) fn checksum(page: &[u8; PAGE_BYTES], number: u32) -> u16 {
    let mut sums = OFFSETS;
    let (rows, _) = page.as_chunks::<{ LANES * 4 }>();
    for (index, row) in rows.iter().enumerate() {
        let mut values = [0_u32; LANES];
        let (words, _) = row.as_chunks::<4>();
        for (value, bytes) in values.iter_mut().zip(words) {
            *value = u32::from_le_bytes(*bytes);
        }
        if index == 0 {
            // The checksum's two bytes are the lower ones of the third word.
            values[2] &= 0xFFFF_0000;
        }
        mix(&mut sums, &values);
    }
    // Two rounds of zeros, so that the last values are mixed, too.
    mix(&mut sums, &[0; LANES]);
    mix(&mut sums, &[0; LANES]);
    let folded = sums.iter().fold(0, |folded, sum| folded ^ sum) ^ number;
    // From 1 on: 0 says that there is none. Below 65,536 by the division.
    (folded % 65_535 + 1) as u16
}

#[inline]
fn mix(sums: &mut [u32; LANES], values: &[u32; LANES]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        let mixed = *sum ^ value;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

fn word(page: &[u8; PAGE_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u32) -> [u8; PAGE_BYTES] {
        let mut page = [0_u8; PAGE_BYTES];
        for (at, byte) in page.iter_mut().enumerate() {
            *byte = (at * 31 % 251) as u8;
        }
        let sum = checksum(&page, number);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn a_page_is_good_in_its_own_place_alone() {
        let good = page(7);
        assert_eq!(look_at(&good, 7), PageState::Good);
        assert!(matches!(look_at(&good, 8), PageState::Bad { .. }));
    }

    #[test]
    fn any_byte_that_changes_is_noticed() {
        let good = page(0);
        for at in 0..PAGE_BYTES {
            let mut wrong = good;
            wrong[at] ^= 0x10;
            assert!(matches!(look_at(&wrong, 0), PageState::Bad { .. }), "{at}");
        }
    }

    #[test]
    fn a_new_page_is_empty() {
        let mut new = [0_u8; PAGE_BYTES];
        assert_eq!(look_at(&new, 3), PageState::New);
        new[4000] = 1;
        new[..8].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(look_at(&new, 3), PageState::Bad { lsn: (1 << 32) + 5 });
    }
}
