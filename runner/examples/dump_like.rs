//! Writes something like a database dump to standard output: rows of COPY text
//! with the redundancy of real ones, always the same for the same arguments.
//!
//! `dump_like MEGABYTES [DAY]`: each day changes one row in a hundred of the
//! first day's rows in place, and appends one row in fifty.

use std::io::Write as _;

/// SplitMix64 (Steele, Lea, Flood 2014): a row's values from its number alone.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const WORDS: [&str; 16] = [
    "north", "amber", "river", "stone", "cloud", "ember", "field", "glass", "harbour", "island",
    "jumper", "kettle", "lantern", "meadow", "needle", "orchard",
];

fn row(number: u64, version: u64, line: &mut Vec<u8>) -> std::io::Result<()> {
    let x = mixed(number ^ (version << 48));
    let word = |shift: u32| WORDS[(x >> shift) as usize % WORDS.len()];
    line.clear();
    writeln!(
        line,
        "{number}\t{} {}\t{}@example.org\t2025-{:02}-{:02} {:02}:{:02}:00+00\t{}.{:02}\t{{\"sku\": \"{:016x}\", \"note\": \"{} {} {}\"}}",
        word(0),
        word(4),
        word(8),
        1 + x % 12,
        1 + (x >> 12) % 28,
        (x >> 20) % 24,
        (x >> 28) % 60,
        (x >> 32) % 10_000,
        (x >> 46) % 100,
        mixed(x),
        word(16),
        word(24),
        word(40),
    )
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let Some(Ok(megabytes)) = arguments.next() else {
        return Err(std::io::Error::other("usage: dump_like MEGABYTES [DAY]"));
    };
    let day = arguments.next().and_then(Result::ok).unwrap_or(0);
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let (mut line, mut written, mut number) = (Vec::new(), 0_u64, 0_u64);
    while written < megabytes * 1_000_000 {
        let changed = day > 0 && mixed(number ^ day).is_multiple_of(100);
        row(number, if changed { day } else { 0 }, &mut line)?;
        out.write_all(&line)?;
        written += line.len() as u64;
        number += 1;
    }
    for extra in 0..day * (number / 50) {
        row(number + extra, 0, &mut line)?;
        out.write_all(&line)?;
    }
    out.flush()
}
