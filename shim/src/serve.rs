//! The loop: what the runner asks for, what the server does, and signals, one after the other.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use dbbackup_shim::{FromShim, MAX_MESSAGE_BYTES, PROTOCOL, SignalName, ToShim, decode, line_text};
use rustix::process::{getpid, set_child_subreaper};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::find::find;
use crate::outbox::Outbox;
use crate::server::{Server, Stage, reap};

/// How often the runner's socket is tried, and how often clocks are looked at while one runs.
const TICK: Duration = Duration::from_millis(100);
/// How often this program wakes up otherwise.
const REST: Duration = Duration::from_secs(60);
/// How long a server may take to end when the runner is gone. Nobody needs its data any more.
const PATIENCE_WHEN_LOST: Duration = Duration::from_secs(10);
/// How long it may take when this program was told to end.
const PATIENCE_WHEN_STOPPED: Duration = Duration::from_secs(60);
/// How long the last messages may take.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);

const DONE: u8 = 0;
const FAILED: u8 = 1;

/// What can happen.
pub(crate) enum Event {
    /// The runner has said something.
    Asked(ToShim),
    /// The link to the runner is broken, for this reason.
    Lost(String),
    /// SIGTERM, or SIGINT.
    Stop,
    /// A process has ended.
    Child,
    /// The server's output has.
    OutputEnded,
}

/// This program is about to end.
struct Leaving {
    code: u8,
    kill_at: Instant,
}

struct Service {
    events: Receiver<Event>,
    sender: Sender<Event>,
    outbox: Arc<Outbox>,
    server: Option<Server>,
    leaving: Option<Leaving>,
}

/// Serves the runner that listens on `socket`, until the end. Gives the exit code.
pub(crate) fn serve(socket: &Path) -> u8 {
    let (sender, events) = channel();
    if let Err(error) = listen_to_signals(&sender) {
        return failed(&format!("signals cannot be caught: {error}"));
    }
    // Orphans come to the first process of a container; where this is not the first, too.
    let _ = set_child_subreaper(Some(getpid()));
    let Some(stream) = connect(socket, &events) else { return DONE };
    let outbox = Arc::new(Outbox::default());
    if let Err(error) = talk(stream, &outbox, &sender) {
        return failed(&format!("the link cannot be used: {error}"));
    }
    outbox.say(FromShim::Hello { protocol: PROTOCOL });
    let code =
        Service { events, sender, outbox: Arc::clone(&outbox), server: None, leaving: None }.run();
    outbox.settle(LAST_WORDS_PATIENCE);
    code
}

fn failed(why: &str) -> u8 {
    eprintln!("dbbackup-shim: {why}");
    FAILED
}

fn listen_to_signals(sender: &Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD])?;
    let sender = sender.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            let event = if signal == SIGCHLD { Event::Child } else { Event::Stop };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Connects as soon as somebody listens: this program starts before the runner does. `None` if it
/// is told to stop before.
fn connect(socket: &Path, events: &Receiver<Event>) -> Option<UnixStream> {
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            return Some(stream);
        }
        if matches!(events.recv_timeout(TICK), Ok(Event::Stop)) {
            return None;
        }
    }
}

/// Starts the two threads of the link.
fn talk(stream: UnixStream, outbox: &Arc<Outbox>, sender: &Sender<Event>) -> std::io::Result<()> {
    let (to_runner, outbox, lost) = (stream.try_clone()?, Arc::clone(outbox), sender.clone());
    thread::spawn(move || {
        let why = outbox.send_to(to_runner);
        let _ = lost.send(Event::Lost(why));
    });
    let sender = sender.clone();
    thread::spawn(move || {
        let mut from_runner = BufReader::new(stream);
        loop {
            let event = next_message(&mut from_runner);
            let is_last = matches!(event, Event::Lost(_));
            if sender.send(event).is_err() || is_last {
                return;
            }
        }
    });
    Ok(())
}

fn next_message(stream: &mut BufReader<UnixStream>) -> Event {
    let most = MAX_MESSAGE_BYTES as u64;
    let mut line = Vec::new();
    match stream.take(most).read_until(b'\n', &mut line) {
        Ok(_) if line.last() == Some(&b'\n') => {
            decode(&line).map_or_else(Event::Lost, Event::Asked)
        }
        Ok(MAX_MESSAGE_BYTES) => Event::Lost("a message does not end".to_owned()),
        Ok(_) => Event::Lost("the runner has closed it".to_owned()),
        Err(error) => Event::Lost(error.to_string()),
    }
}

impl Service {
    fn run(mut self) -> u8 {
        loop {
            match self.events.recv_timeout(if self.clock_runs() { TICK } else { REST }) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return FAILED,
            }
            if let Some(code) = self.progress() {
                return code;
            }
        }
    }

    /// Whether something is about to end, which may take only so long.
    fn clock_runs(&self) -> bool {
        let is_ending = |server: &Server| matches!(server.stage(), Stage::Ending);
        self.leaving.is_some() || self.server.as_ref().is_some_and(is_ending)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Asked(ToShim::Find { program, major }) => self.outbox.say(find(&program, major)),
            Event::Asked(ToShim::Start { program, arguments, environment }) => {
                let started = match (&self.server, &self.leaving) {
                    (Some(_), _) => Err("a server runs already".to_owned()),
                    (_, Some(_)) => Err("this program is about to end".to_owned()),
                    _ => Server::start(
                        &program,
                        &arguments,
                        &environment,
                        &self.outbox,
                        &self.sender,
                    ),
                };
                match started {
                    Ok(server) => self.server = Some(server),
                    Err(error) => {
                        self.outbox
                            .say(FromShim::NotStarted { error: line_text(error.as_bytes()) });
                    }
                }
            }
            Event::Asked(ToShim::Signal { name }) => self.signal(name),
            Event::Asked(ToShim::Bye {}) | Event::Stop => {
                self.leave(DONE, SignalName::Int, PATIENCE_WHEN_STOPPED);
            }
            Event::Lost(why) => {
                if self.leaving.is_none() {
                    eprintln!("dbbackup-shim: the link to the runner is broken: {why}");
                }
                self.leave(FAILED, SignalName::Quit, PATIENCE_WHEN_LOST);
            }
            Event::OutputEnded => {
                if let Some(server) = &mut self.server {
                    server.output_has_ended();
                }
            }
            Event::Child => {}
        }
    }

    /// Begins to leave. Asked for twice, the first exit code counts, and the shorter patience.
    fn leave(&mut self, code: u8, signal: SignalName, patience: Duration) {
        let kill_at = Instant::now() + patience;
        self.signal(signal);
        match &mut self.leaving {
            Some(leaving) => leaving.kill_at = leaving.kill_at.min(kill_at),
            None => self.leaving = Some(Leaving { code, kill_at }),
        }
    }

    fn signal(&self, name: SignalName) {
        if let Some(server) = &self.server {
            server.signal(name);
        }
    }

    /// What has come of the server, and of the wish to leave; the exit code at the end.
    fn progress(&mut self) -> Option<u8> {
        let Some(server) = &mut self.server else {
            // Orphans of others, such as of a command that somebody has run in the container.
            reap(|_, _| {});
            return self.leaving.as_ref().map(|leaving| leaving.code);
        };
        server.reap();
        if matches!(server.stage(), Stage::Stuck) {
            // Who cannot say that nothing is left says nothing: the end of this program, the
            // container's first, takes all of it along.
            return Some(failed("what the server has left behind does not end"));
        }
        let gone_for = server.gone_for();
        if let Some(last_word) = server.last_word() {
            self.outbox.say(last_word);
            self.server = None;
            return self.leaving.as_ref().map(|leaving| leaving.code);
        }
        if let Some(leaving) = &self.leaving
            && Instant::now() >= leaving.kill_at
        {
            server.signal(SignalName::Kill);
        }
        // Its last lines may wait for a runner that does not read: nobody waits long for these.
        let is_over = gone_for.is_some_and(|since| since >= LAST_WORDS_PATIENCE);
        self.leaving.as_ref().filter(|_| is_over).map(|leaving| leaving.code)
    }
}
