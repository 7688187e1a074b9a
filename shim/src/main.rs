//! `dbbackup-shim`: the program beside a server that is recovered, in the server's own image.
//!
//! Only the arguments stand here. It is linked statically, for images that may hold anything, and
//! needs nothing of them but the server itself.

mod find;
mod outbox;
mod output;
mod serve;
mod server;
mod version;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use dbbackup_shim::DEFAULT_SOCKET;

/// Wrong usage, as the runner has it (sysexits.h, `EX_USAGE`).
const USAGE: u8 = 64;

/// What the arguments say.
enum Wanted {
    Serve(PathBuf),
    Version,
}

fn main() -> ExitCode {
    match wanted(std::env::args_os().skip(1)) {
        Some(Wanted::Serve(socket)) => serve::serve(&socket).into(),
        Some(Wanted::Version) => {
            let version = concat!("dbbackup-shim ", env!("CARGO_PKG_VERSION"));
            u8::from(writeln!(std::io::stdout(), "{version}").is_err()).into()
        }
        None => {
            eprintln!("usage: dbbackup-shim [--socket PATH]   ({DEFAULT_SOCKET} if not said)");
            USAGE.into()
        }
    }
}

fn wanted(mut arguments: impl Iterator<Item = OsString>) -> Option<Wanted> {
    let wanted = match arguments.next() {
        None => Wanted::Serve(DEFAULT_SOCKET.into()),
        Some(flag) if flag == "--socket" => Wanted::Serve(arguments.next()?.into()),
        Some(flag) if flag == "--version" => Wanted::Version,
        Some(_) => return None,
    };
    arguments.next().is_none().then_some(wanted)
}
