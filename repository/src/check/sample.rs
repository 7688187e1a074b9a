//! Which packs' data a check reads when it does not read all.

use crate::keyring::sha256;

/// All of the circle of samples, in hundredths of a percent.
const WHOLE: u16 = 10_000;
/// 2^64 divided by the golden ratio. Multiples of it spread over the circle as
/// evenly as can be (Knuth, The Art of Computer Programming, volume 3, 6.4):
/// whoever checks every day, every other day, every week or every month has read
/// everything after 1.5 to 4 ÷ share checks.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A share of the packs: those whose name's hash lies in a window of the circle of
/// all hashes. The window goes round with the number of the check, and the same
/// number gives the same packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    hundredths: u16,
    start: u64,
}

impl Sample {
    /// Every pack.
    #[must_use]
    pub fn all() -> Self {
        Self { hundredths: WHOLE, start: 0 }
    }

    /// A share of the packs, in hundredths of a percent (0 to 10,000), for the
    /// check of this number: a counter, or the day.
    #[must_use]
    pub fn share(hundredths: u16, number: u64) -> Self {
        Self { hundredths: hundredths.min(WHOLE), start: number.wrapping_mul(GOLDEN) }
    }

    /// Whether it is everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.hundredths == WHOLE
    }

    /// Whether the pack with this last part of its name is in it.
    pub(super) fn takes(&self, last_part: &str) -> bool {
        let hash = sha256(last_part.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = hash;
        let place = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let window = u64::MAX / u64::from(WHOLE) * u64::from(self.hundredths);
        self.is_all() || place.wrapping_sub(self.start) < window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        (0..2000).map(|n| format!("pack-{n}")).collect()
    }

    #[test]
    fn a_sample_has_about_its_share_and_is_the_same_for_the_same_number() {
        let taken = |number| -> Vec<String> {
            let sample = Sample::share(500, number);
            names().into_iter().filter(|name| sample.takes(name)).collect()
        };
        for number in 0..50 {
            assert!((60..140).contains(&taken(number).len()), "{}", taken(number).len());
        }
        assert_eq!(taken(7), taken(7));
        assert_ne!(taken(7), taken(8));
        assert!(names().iter().all(|name| Sample::share(10_000, 3).takes(name)));
    }

    #[test]
    fn whoever_checks_at_a_steady_pace_reads_everything_in_time() {
        for step in [1, 2, 3, 7, 14, 28, 30] {
            for hundredths in [100, 500, 1000, 2500, 5000] {
                let mut left = names();
                let runs = 40_000 / u64::from(hundredths);
                for run in 0..runs {
                    let sample = Sample::share(hundredths, 20_000 + run * step);
                    left.retain(|name| !sample.takes(name));
                }
                assert!(left.is_empty(), "step {step}, share {hundredths}: {} left", left.len());
            }
        }
    }
}
