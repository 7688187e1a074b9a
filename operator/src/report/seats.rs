//! Who may hold a connection. Before a request is read nothing is known of a caller but where
//! it comes from, so that is what the places are shared by.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What callers are given before they are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once, of all addresses. A message takes milliseconds; the rest waits in
    /// the kernel.
    pub most: usize,
    /// From so many on an address gets no more than its share, and no connection is kept for
    /// a further message. Below that nobody goes short: where a Service or a node hides
    /// addresses, many honest pods come from one.
    pub crowded: usize,
    /// Connections of one address, once it is crowded.
    pub share: usize,
    /// For a handshake, and then again until the headers are here.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { most: 256, crowded: 192, share: 8, patience: Duration::from_secs(5) }
    }
}

/// The places for connections.
#[derive(Debug)]
pub(super) struct Seats {
    limits: Limits,
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// A place that somebody has; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    peer: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(limits.most));
        Arc::new(Self { limits, free, taken: Mutex::default() })
    }

    /// Waits until a place is free.
    pub(super) async fn free(&self) -> OwnedSemaphorePermit {
        // It is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.unwrap_or_else(|_| unreachable!("the places are not closed"))
    }

    /// Gives the place that is free to `peer`, unless others need it more.
    pub(super) fn give(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        peer: IpAddr,
    ) -> Option<Seat> {
        let peer = peer.to_canonical();
        let mut taken = self.lock();
        let own = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if taken.all >= self.limits.crowded && own >= self.limits.share {
            return None;
        }
        taken.all += 1;
        taken.by_peer.insert(peer, own + 1);
        Some(Seat { seats: Arc::clone(self), peer, _permit: permit })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Whether there are so many connections that one which is not needed now should end.
    pub(super) fn is_wanted(&self) -> bool {
        self.seats.lock().all >= self.seats.limits.crowded
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_peer.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_single_address_may_have_nearly_all_and_the_rest_is_for_others() {
        let seats =
            Seats::new(Limits { most: 8, crowded: 6, share: 1, patience: Duration::from_secs(5) });
        let take = |peer| seats.give(seats.free().now_or_never()?, peer);
        let mut held: Vec<Seat> = std::iter::from_fn(|| take(peer(1))).collect();
        assert_eq!(held.len(), 6);
        assert!(held[0].is_wanted());
        // The same one in IPv6's clothes is no other.
        assert!(take("::ffff:10.0.0.1".parse().unwrap()).is_none());
        held.extend(take(peer(2)));
        assert!(take(peer(2)).is_none());
        held.extend(take(peer(3)));
        assert_eq!(held.len(), 8);
        assert!(seats.free().now_or_never().is_none(), "all are taken");

        held.truncate(5);
        assert!(!held[0].is_wanted());
        assert!(take(peer(1)).is_some());
        drop(held);
        let taken = seats.lock();
        assert!(taken.all == 0 && taken.by_peer.is_empty(), "nothing is kept of who has left");
    }
}
