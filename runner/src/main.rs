//! The runner: the program in every Job's pod, and a tool for people.
//!
//! Only wiring stands here. Commands are in `commands`, what a Job's task and a
//! command share is in `work`.

mod address;
mod byte_sink;
mod byte_source;
mod cli;
mod commands;
mod patience;
mod program;
mod progress;
mod report_channel;
mod shim_link;
mod speed;
mod stop;
mod stored_folder;
mod streams;
mod terminal;
mod termination;
mod tree;
mod uri;
mod work;

use std::process::ExitCode as ProcessExit;

use clap::Parser as _;
use dbbackup_contract::ExitCode;

use crate::cli::Cli;
use crate::stop::Stop;

fn main() -> ProcessExit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(shown) => {
            let code = if shown.use_stderr() { ExitCode::Usage } else { ExitCode::Success };
            // Nobody is there to hear that nobody is there to hear.
            let _ = shown.print();
            return code.code().into();
        }
    };
    terminal::log(cli.is_for_a_job());

    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::Internal.code().into();
        }
    };
    let code = runtime.block_on(async {
        let stop = Stop::on_signals();
        let outcome = commands::run(cli, &stop.token()).await;
        let code = outcome.unwrap_or_else(|failure| {
            commands::print::failure(&failure);
            failure.exit_code()
        });
        stop.exit_code(code)
    });
    // What is just being written to the volume leaves no half of a file behind. What
    // hangs is left to hang.
    runtime.shutdown_timeout(patience::GRACE);
    code.into()
}
