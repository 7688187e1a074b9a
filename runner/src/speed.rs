//! Bytes a second over the last half minute, for estimates that follow the present.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the speed looks.
const WINDOW: Duration = Duration::from_secs(30);
/// Samples closer together than this are merged: bounds the memory to 61 samples.
const STEP: Duration = Duration::from_millis(500);

/// A moving average of a growing count.
#[derive(Debug)]
pub(crate) struct Speed {
    samples: VecDeque<(Instant, u64)>,
}

impl Speed {
    /// Nothing has moved at `now`.
    pub(crate) fn starting_at(now: Instant) -> Self {
        Self { samples: VecDeque::from([(now, 0)]) }
    }

    /// Notes that `bytes` have moved in all at `now`; gives the speed in bytes a second.
    pub(crate) fn observe(&mut self, now: Instant, bytes: u64) -> u64 {
        while self.samples.len() > 1 && now.duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
        let speed = self.samples.front().map_or(0, |(then, at_then)| {
            let elapsed = now.duration_since(*then).as_millis();
            let moved = u128::from(bytes.saturating_sub(*at_then)) * 1000;
            moved.checked_div(elapsed).map_or(0, |speed| u64::try_from(speed).unwrap_or(u64::MAX))
        });
        if self.samples.back().is_none_or(|(last, _)| now.duration_since(*last) >= STEP) {
            self.samples.push_back((now, bytes));
        }
        speed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_forgets_what_was_more_than_half_a_minute_ago() {
        let start = Instant::now();
        let mut speed = Speed::starting_at(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(speed.observe(at(0), 0), 0);
        assert_eq!(speed.observe(at(10), 10_000), 1000);
        for second in 11..=60 {
            speed.observe(at(second), 10_000 + (second - 10) * 10);
        }
        assert_eq!(speed.observe(at(61), 10_510), 10);
    }

    #[test]
    fn memory_stays_bounded_however_often_it_is_asked() {
        let start = Instant::now();
        let mut speed = Speed::starting_at(start);
        for step in 0..100_000_u64 {
            speed.observe(start + Duration::from_millis(step), step);
        }
        assert!(speed.samples.len() <= 62, "{}", speed.samples.len());
    }
}
