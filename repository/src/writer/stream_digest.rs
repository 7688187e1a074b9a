//! The keyed digest of a stream, over its bytes in order. Whoever has identified a
//! segment digests it, too: its bytes are in that core's cache, and the thread that cuts,
//! whom nobody can help, has less to do.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Takes the segments of a stream in any order, from several threads.
#[derive(Debug)]
pub(super) struct StreamDigest(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Absent while somebody digests.
    hasher: Option<Box<blake3::Hasher>>,
    /// The segment that comes next.
    next: u64,
    /// Segments that wait for one before them, or for whoever digests.
    waiting: BTreeMap<u64, Bytes>,
}

impl StreamDigest {
    pub(super) fn new(hasher: blake3::Hasher) -> Self {
        let hasher = Some(Box::new(hasher));
        Self(Mutex::new(State { hasher, next: 0, waiting: BTreeMap::new() }))
    }

    /// Adds the segment of this number, from 0. Whoever digests goes on with what others
    /// leave behind meanwhile: when this has returned for a segment and for all before it,
    /// all of them are digested.
    pub(super) fn add(&self, number: u64, segment: Bytes) {
        let mut state = self.lock();
        state.waiting.insert(number, segment);
        let Some(mut hasher) = state.hasher.take() else { return };
        while let Some(segment) = state.take_next() {
            drop(state);
            hasher.update(&segment);
            drop(segment);
            state = self.lock();
        }
        state.hasher = Some(hasher);
    }

    /// The digest of the first `segments` of `bytes` in all; `None` unless these are all that
    /// were added, and digested.
    pub(super) fn of(&self, segments: u64, bytes: u64) -> Option<[u8; 32]> {
        let state = self.lock();
        let is_all = state.next == segments && state.waiting.is_empty();
        let hasher = state.hasher.as_ref().filter(|hasher| is_all && hasher.count() == bytes)?;
        Some(*hasher.finalize().as_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_next(&mut self) -> Option<Bytes> {
        let segment = self.waiting.remove(&self.next)?;
        self.next += 1;
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn segments_that_come_in_any_order_from_several_threads_are_digested_in_theirs() {
        let segments: Vec<_> = (0..200_u8).map(|n| Bytes::from(vec![n; 10_000])).collect();
        let key = [1; 32];
        for threads in 1..=4 {
            let digest = StreamDigest::new(blake3::Hasher::new_keyed(&key));
            // As far apart as workers are.
            let order = |n: usize| n / 4 * 4 + 3 - n % 4;
            let turn = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        loop {
                            let turn = turn.fetch_add(1, Ordering::Relaxed);
                            if turn >= segments.len() {
                                return;
                            }
                            digest.add(order(turn) as u64, segments[order(turn)].clone());
                        }
                    });
                }
            });
            let whole = blake3::keyed_hash(&key, &segments.concat());
            assert_eq!(digest.of(200, 2_000_000), Some(*whole.as_bytes()));
            assert_eq!((digest.of(199, 2_000_000), digest.of(200, 1_999_999)), (None, None));
        }
    }

    #[test]
    fn nothing_unfinished_has_a_digest() {
        let digest = StreamDigest::new(blake3::Hasher::new());
        assert!(digest.of(0, 0).is_some());
        digest.add(1, Bytes::from_static(b"b"));
        assert_eq!((digest.of(1, 1), digest.of(2, 1), digest.of(0, 0)), (None, None, None));
        digest.add(0, Bytes::from_static(b"a"));
        assert_eq!(digest.of(2, 2), Some(*blake3::hash(b"ab").as_bytes()));
    }
}
