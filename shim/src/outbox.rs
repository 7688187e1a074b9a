//! What is said to the runner, in its order, by a thread of its own: a runner that does not read
//! holds up the server, whose lines then wait, and nothing else.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dbbackup_shim::{FromShim, encode};

/// Messages that may wait before the server's next line has to.
const LINES_AHEAD: usize = 64;

/// The messages that were not sent yet.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<FromShim>,
    /// A message is on its way.
    writing: bool,
    /// Nothing is sent any longer.
    closed: bool,
}

impl Outbox {
    /// Says `message` soon. There are as many of these as the runner has asked for.
    pub(crate) fn say(&self, message: FromShim) {
        self.lock().waiting.push_back(message);
        self.changed.notify_all();
    }

    /// Says a line of the server, once there is room for it.
    pub(crate) fn say_line(&self, text: String) {
        let is_full = |queue: &mut Queue| queue.waiting.len() >= LINES_AHEAD && !queue.closed;
        let waited = self.changed.wait_while(self.lock(), is_full);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        if !queue.closed {
            queue.waiting.push_back(FromShim::Line { text });
            self.changed.notify_all();
        }
    }

    /// Sends what is said, until that fails. Says why.
    pub(crate) fn send_to(&self, mut stream: impl Write) -> String {
        loop {
            let message = self.next();
            let sent = encode(&message)
                .and_then(|line| stream.write_all(&line).map_err(|error| error.to_string()));
            let mut queue = self.lock();
            queue.writing = false;
            queue.closed = sent.is_err();
            self.changed.notify_all();
            if let Err(why) = sent {
                return why;
            }
        }
    }

    /// Waits until all is sent, but no longer than this.
    pub(crate) fn settle(&self, patience: Duration) {
        let is_busy =
            |queue: &mut Queue| (queue.writing || !queue.waiting.is_empty()) && !queue.closed;
        drop(self.changed.wait_timeout_while(self.lock(), patience, is_busy));
    }

    fn next(&self) -> FromShim {
        let mut queue = self.lock();
        loop {
            if let Some(message) = queue.waiting.pop_front() {
                queue.writing = true;
                return message;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
