//! How many are told at once. A store that is gone fails thousands of backups in one minute;
//! they are told of one after the other then.
//!
//! Kept in memory: what runs is counted again when it is looked at, which happens to each
//! within a minute. After a restart a few more may run for a moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most in all namespaces.
const AT_ONCE: usize = 20;
/// Most of one namespace: a receiver that does not answer keeps no other team waiting.
const OF_A_NAMESPACE: usize = 5;
/// One that was begun so long ago keeps nobody waiting: its pod does not start, for as long as
/// its schedule lets it.
const KEEPS_ITS_PLACE: Duration = Duration::from_secs(1800);
/// One that nobody has looked at for so long is gone, with its backup.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// Who is being told.
#[derive(Debug, Default)]
pub struct Places {
    taken: Mutex<HashMap<String, Taken>>,
}

#[derive(Debug)]
struct Taken {
    namespace: String,
    since: Instant,
    seen: Instant,
}

impl Places {
    /// Takes a place, if there is one. Who has one keeps it.
    pub fn take(&self, who: &str, namespace: &str, now: Instant) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, it| now.saturating_duration_since(it.seen) < FORGOTTEN);
        let is_new = |it: &&Taken| now.saturating_duration_since(it.since) < KEEPS_ITS_PLACE;
        let all = taken.values().filter(is_new).count();
        let here = taken.values().filter(is_new).filter(|it| it.namespace == namespace).count();
        let has_one = taken.contains_key(who);
        if !has_one && (all >= AT_ONCE || here >= OF_A_NAMESPACE) {
            return false;
        }
        see(&mut taken, who, namespace, now);
        true
    }

    /// It runs, whether there was a place or not.
    pub fn keep(&self, who: &str, namespace: &str, now: Instant) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        see(&mut taken, who, namespace, now);
    }

    /// It has ended.
    pub fn free(&self, who: &str) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
    }
}

fn see(taken: &mut HashMap<String, Taken>, who: &str, namespace: &str, now: Instant) {
    let new = || Taken { namespace: namespace.to_owned(), since: now, seen: now };
    taken.entry(who.to_owned()).or_insert_with(new).seen = now;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_some_of_the_places_and_what_ends_or_is_forgotten_makes_room() {
        let (places, now) = (Places::default(), Instant::now());
        let taken = |namespace: &str| {
            (0..100).filter(|n| places.take(&format!("{namespace}-{n}"), namespace, now)).count()
        };
        assert_eq!(["a", "b", "c", "d", "e"].map(taken), [5, 5, 5, 5, 0]);
        assert!(places.take("a-0", "a", now), "it has one");
        places.free("b-0");
        assert!(!places.take("a-5", "a", now) && places.take("e-0", "e", now));
        let later = now + FORGOTTEN;
        places.keep("c-0", "c", later);
        assert!(places.take("a-5", "a", later));
        // One that was begun before a restart counts, too.
        (0..AT_ONCE).for_each(|n| places.keep(&format!("x-{n}"), "x", later));
        assert!(!places.take("b-0", "b", later));
    }

    #[test]
    fn one_that_does_not_come_to_run_keeps_nobody_waiting_for_ever() {
        let (places, begun) = (Places::default(), Instant::now());
        let all: Vec<_> = (0..AT_ONCE).map(|n| (n.to_string(), format!("ns{}", n / 5))).collect();
        all.iter().for_each(|(who, namespace)| assert!(places.take(who, namespace, begun)));
        let minutes = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        for minute in 1..30 {
            all.iter().for_each(|(who, namespace)| places.keep(who, namespace, minutes(minute)));
            assert!(!places.take("other", "other", minutes(minute)), "{minute}");
        }
        all.iter().for_each(|(who, namespace)| places.keep(who, namespace, minutes(30)));
        assert!(places.take("other", "other", minutes(30)));
    }
}
