//! Buffers that are used again once whoever reads them has let go. Fresh memory costs
//! as much as decoding what is put into it, and large pieces that come and go leave
//! holes behind: a process would hold far more than it uses.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of about the same size. Clones share them.
#[derive(Clone)]
pub(crate) struct Buffers {
    most_idle: usize,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("most_idle", &self.most_idle).finish_non_exhaustive()
    }
}

impl Buffers {
    /// Keeps so many buffers that nobody uses.
    pub(crate) fn new(most_idle: usize) -> Self {
        Self { most_idle, idle: Arc::default() }
    }

    /// A buffer that was used before, with what was in it, or an empty one.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Lends a buffer to readers: it comes back when none of them refers to it.
    pub(crate) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { bytes, home: self.clone() })
    }
}

struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.home.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.home.most_idle {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_not_while_somebody_reads_it() {
        let buffers = Buffers::new(1);
        let (one, two) = (buffers.lend(vec![1; 1000]), buffers.lend(vec![2; 1000]));
        let (part, address) = (one.slice(5..7), one.as_ptr());
        drop(one);
        assert!(buffers.take().is_empty() && part[..] == [1, 1], "it was still read");
        drop(part);
        let again = buffers.take();
        assert!(again.as_ptr() == address, "it was not used again");
        drop((buffers.lend(again), two));
        assert!(buffers.take().len() == 1000 && buffers.take().is_empty(), "one too many is kept");
    }
}
