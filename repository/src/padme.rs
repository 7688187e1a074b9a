//! Padmé: sizes that tell little (Nikitin and others, "Reducing Metadata Leakage
//! from Encrypted Files and Communication with PURBs", PETS 2019, section 4.3).

/// The size to which `length` is padded: at most 12 % more.
pub(crate) fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let last_bits = exponent.saturating_sub(exponent.checked_ilog2().unwrap_or(0) + 1);
    let mask = (1_u64 << last_bits) - 1;
    length.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::padme;

    #[test]
    fn sizes_are_those_of_the_paper() {
        for (length, padded) in
            [(0, 0), (1, 1), (9, 10), (100, 104), (1000, 1024), (65_537, 67_584)]
        {
            assert_eq!(padme(length), padded, "{length}");
        }
        for length in 1..100_000_u64 {
            let padded = padme(length);
            assert!(padded >= length && (padded - length) * 100 <= length * 12, "{length}");
        }
    }
}
