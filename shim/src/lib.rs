//! What the runner and the program beside a server say to each other.
//!
//! The program, `dbbackup-shim`, is the command of the container that has the server's own image.
//! It starts the server when the runner says so, hands on what the server writes, and says how it
//! ended. The runner listens on a Unix socket in a folder that both containers mount; the program
//! connects, says [`FromShim::Hello`], and then only answers and reports.
//!
//! Each message is one JSON object in a line of at most [`MAX_MESSAGE_BYTES`], its end included.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod text;

pub use crate::text::{MAX_LINE_BYTES, line_text};

/// The protocol that this release speaks. Both sides come out of one image: there is no other.
pub const PROTOCOL: u32 = 1;
/// Most bytes of a message, with the end of its line.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Where the runner listens, if not told otherwise (`SHIM_SOCKET` of the contract).
pub const DEFAULT_SOCKET: &str = "/run/dbbackup/server/shim.sock";

/// What the runner asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ToShim {
    /// Look for a program: in `PATH`, then where servers are usually installed. The answer is
    /// [`FromShim::Found`] or [`FromShim::NotFound`].
    Find {
        /// Its name, without a folder.
        program: String,
        /// The major version that is preferred, where there are several. The first program that
        /// starts is named if none is of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        major: Option<u32>,
    },
    /// Start the server: one at a time. The answer is [`FromShim::Started`] or
    /// [`FromShim::NotStarted`].
    Start {
        /// The program's path.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
        /// What is added to the container's own environment.
        #[serde(default)]
        environment: BTreeMap<String, String>,
    },
    /// Send the server a signal. There is no answer, and where no server runs, no effect.
    Signal {
        /// Which.
        name: SignalName,
    },
    /// End, with exit code 0. A server that still runs is shut down first.
    Bye {},
}

/// A signal to a server. What each means is PostgreSQL's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SignalName {
    /// Smart shutdown: waits for the clients.
    Term,
    /// Fast shutdown: ends the clients.
    Int,
    /// Immediate shutdown: without a checkpoint.
    Quit,
    /// The process, and all of its group, at once.
    Kill,
}

/// What the program beside the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum FromShim {
    /// The first message.
    Hello {
        /// [`PROTOCOL`] of the speaker.
        protocol: u32,
    },
    /// The program was found, and starts.
    Found {
        /// Its path.
        program: String,
        /// The first line of what `--version` prints.
        version: String,
    },
    /// No such program starts.
    NotFound {
        /// Where it was looked for: folders, with what is wrong with the program in them.
        tried: Vec<String>,
    },
    /// The server was started.
    Started {
        /// Its process, in its own container's numbers.
        pid: u32,
    },
    /// The server was not started.
    NotStarted {
        /// Why.
        error: String,
    },
    /// A line of the server's standard output or error, as [`line_text`] makes it.
    Line {
        /// The line, without its end.
        text: String,
    },
    /// The server has ended, nothing that it started runs any longer, and all of its lines were
    /// handed on.
    Ended {
        /// Its exit code, if it ended by itself.
        code: Option<i32>,
        /// The signal that ended it, otherwise.
        signal: Option<i32>,
    },
}

/// A message as it is sent: with the end of its line.
///
/// # Errors
/// A sentence about a message that is too long.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut line = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    line.push(b'\n');
    match line.len() {
        0..=MAX_MESSAGE_BYTES => Ok(line),
        long => {
            Err(format!("a message of {long} bytes is too long: {MAX_MESSAGE_BYTES} are the most"))
        }
    }
}

/// A message as it came, with or without the end of its line.
///
/// # Errors
/// A sentence about what is no message of this protocol. Nothing of the message stands in it.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        let (kind, column) = (error.classify(), error.column());
        format!("no message of the protocol ({kind:?} at byte {column})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were_sent() {
        let environment = BTreeMap::from([("LANG".to_owned(), "C".to_owned())]);
        let (program, arguments) = ("/bin/postgres".to_owned(), vec!["-D".to_owned()]);
        for message in [
            ToShim::Find { program: "postgres".into(), major: Some(17) },
            ToShim::Start { program, arguments, environment },
            ToShim::Signal { name: SignalName::Int },
            ToShim::Bye {},
        ] {
            assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
        }
    }

    #[test]
    fn a_message_is_one_line_of_json() {
        let json = |message| String::from_utf8(encode(&message).unwrap()).unwrap();
        assert_eq!(json(FromShim::Hello { protocol: 1 }), "{\"hello\":{\"protocol\":1}}\n");
        assert_eq!(
            json(FromShim::Line { text: "a\nb".into() }),
            "{\"line\":{\"text\":\"a\\nb\"}}\n"
        );
    }

    #[test]
    fn what_is_too_long_or_unknown_is_refused_without_repeating_it() {
        let long = FromShim::Line { text: "x".repeat(MAX_MESSAGE_BYTES) };
        assert!(encode(&long).unwrap_err().contains("too long"));
        for wrong in
            ["", "{}", "[]", "{\"secret\":{}}", "{\"hello\":{\"protocol\":1,\"secret\":2}}"]
        {
            let error = decode::<FromShim>(wrong.as_bytes()).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
