//! `backup`: databases of a server into a repository.

use std::time::Instant;

use dbbackup_contract::{
    BackupAction, DatabaseSelection, ExitCode, Failure, MadeBy, Origin, Report, Source,
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cli::BackupArgs;
use crate::commands::{print, repository_access, server_access};
use crate::progress::ProgressBoard;
use crate::work;

pub(super) async fn backup(
    args: BackupArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let repository = repository_access(&args.repository)?;
    let server = &args.server.server;
    let action = BackupAction {
        series: args
            .series
            .unwrap_or_else(|| format!("postgresql/{}:{}", server.host, server.port)),
        run_id: uuid::Uuid::new_v4().to_string(),
        slot_time: Timestamp::now(),
        origin: Origin {
            cluster: String::new(),
            namespace: String::new(),
            backup: "command line".to_owned(),
            schedule: None,
        },
        made_by: MadeBy::Schedule,
        source: Source::Postgresql {
            access: server_access(&args.server)?,
            databases: DatabaseSelection {
                include: args.include.into_iter().chain(server.database.clone()).collect(),
                exclude: args.exclude,
            },
        },
    };
    let board = ProgressBoard::new(None);
    let stall_timeout = args.repository.stall_timeout();
    let order = work::Order::by_hand(&repository, stall_timeout, &board, cancel);
    let report = work::back_up(&order, &action).await;
    board.clear();
    if args.json {
        print::json(&report)?;
    } else {
        if let Some(id) = &report.snapshot_id {
            print::line(&format!("snapshot {id}"));
        }
        print::databases(&report.databases, "it allows no connections");
        if report.snapshot_id.is_some() {
            print::line(&print::byte_counts(&report.bytes, started.elapsed()));
        }
    }
    if let Some(failure) = &report.error {
        print::failure(failure);
    }
    Ok(Report::Backup(report).exit_code())
}
