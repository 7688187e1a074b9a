//! How the server is started beside a recovery: so that its copy harms nobody, is reached by
//! nobody, and says in words that are known how far it has come.
//!
//! What stands on a command line wins over what the server's own files say.

use std::path::{Path, PathBuf};

use dbbackup_contract::Failure;

use super::volume::write_new;

/// How often a server from 15 on says how far it has come.
pub(super) const PROGRESS_SECONDS: u32 = 2;
/// The server's cache. Its own setting is for a machine of its own; the container's memory may be
/// far less, and replay gains little by more.
const SHARED_BUFFERS: &str = "128MB";
/// Lets nobody in. (A line for replication is not needed: what no line names is refused.)
const NOBODY: &str =
    "# Written by dbbackup: nobody connects while it recovers.\nlocal all all reject\n";

/// Lets whoever reaches the socket in. That is a file for the pod's user alone, in a folder that
/// only its containers have.
const THE_POD: &str = "# Written by dbbackup: this copy is asked for a drill, and then thrown away.\nlocal all all trust\n";
/// Names the socket: nothing listens on that port.
const PORT: &str = "5432";

/// Files in the folder that runner and server share.
pub(super) struct ServerFolder<'a>(pub(super) &'a Path);

impl ServerFolder<'_> {
    fn hba(&self) -> PathBuf {
        self.0.join("pg_hba.conf")
    }

    fn drill_hba(&self) -> PathBuf {
        self.0.join("pg_hba_drill.conf")
    }

    /// The server's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.0.join(format!(".s.PGSQL.{PORT}"))
    }

    fn ident(&self) -> PathBuf {
        self.0.join("pg_ident.conf")
    }

    fn pid(&self) -> PathBuf {
        self.0.join("server.pid")
    }

    /// Writes the files that [`arguments`] names.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        write_new(&self.hba(), NOBODY.as_bytes())?;
        write_new(&self.ident(), b"")
    }

    /// Writes the file that [`asked_arguments`] names besides.
    pub(super) fn prepare_to_be_asked(&self) -> Result<(), Failure> {
        write_new(&self.drill_hba(), THE_POD.as_bytes())
    }
}

/// The arguments of a server of version `major` on `data_dir`.
pub(super) fn arguments(data_dir: &Path, folder: &ServerFolder<'_>, major: u32) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), data_dir.display().to_string()];
    let mut set = |name: &str, value: &str| {
        arguments.push("-c".to_owned());
        arguments.push(format!("{name}={value}"));
    };
    places(&mut set, data_dir, folder);
    for (name, value) in HARMLESS.iter().chain(&RECOVERY).chain(&READABLE) {
        set(name, value);
    }
    if major >= 14 {
        // The files are durable already: opening each of them once more takes long.
        set("recovery_init_sync_method", "syncfs");
    }
    if major >= 15 {
        set("log_startup_progress_interval", &format!("{PROGRESS_SECONDS}s"));
    } else {
        // Debian has it elsewhere.
        set("stats_temp_directory", "pg_stat_tmp");
    }
    arguments
}

/// The same of a server that was recovered, and is now asked: by this pod alone, and so that it
/// changes nothing by itself.
pub(super) fn asked_arguments(
    data_dir: &Path,
    folder: &ServerFolder<'_>,
    major: u32,
) -> Vec<String> {
    let mut arguments = arguments(data_dir, folder, major);
    let mut set = |name: &str, value: &str| {
        arguments.push("-c".to_owned());
        arguments.push(format!("{name}={value}"));
    };
    // Of a setting that is said twice the last one counts.
    set("hba_file", &folder.drill_hba().display().to_string());
    set("default_transaction_read_only", "on");
    // What is asked may hold values: it is in the spec, and need not be in a log.
    set("log_min_duration_statement", "-1");
    set("log_duration", "off");
    if major >= 17 {
        // Those of a login would run as whoever asks.
        set("event_triggers", "off");
    }
    arguments
}

/// A server that listens nowhere does not start, so it has a socket in the shared folder.
fn places(set: &mut impl FnMut(&str, &str), data_dir: &Path, folder: &ServerFolder<'_>) {
    set("data_directory", &data_dir.display().to_string());
    set("hba_file", &folder.hba().display().to_string());
    set("ident_file", &folder.ident().display().to_string());
    set("external_pid_file", &folder.pid().display().to_string());
    set("unix_socket_directories", &folder.0.display().to_string());
    set("unix_socket_permissions", "0700");
    set("unix_socket_group", "");
}

/// A copy of a server acts on nothing outside of it, and starts nothing of its own.
const HARMLESS: [(&str, &str); 18] = [
    ("listen_addresses", ""),
    ("port", PORT),
    ("ssl", "off"),
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("synchronous_standby_names", ""),
    // Workers of libraries, such as the launcher of pg_cron: none finds a place.
    ("max_worker_processes", "0"),
    ("max_logical_replication_workers", "0"),
    ("autovacuum", "off"),
    // Whoever ends a process of it ends all: a second start would be a second recovery.
    ("restart_after_crash", "off"),
    ("shared_buffers", SHARED_BUFFERS),
    // With `try` a node with huge pages whose container may have none ends the server by SIGBUS.
    ("huge_pages", "off"),
    // Whatever its own files say: what it reports as done has to be on the disk.
    ("fsync", "on"),
    ("full_page_writes", "on"),
];

/// The target is in `postgresql.auto.conf`; what an earlier recovery has left there, or a delay
/// that the server had as a standby, does not count. Without `hot_standby` the server takes fewer
/// connections than its primary did without a word.
const RECOVERY: [(&str, &str); 7] = [
    ("restore_command", "false"),
    ("recovery_min_apply_delay", "0"),
    ("recovery_target", ""),
    ("recovery_target_time", ""),
    ("recovery_target_xid", ""),
    ("recovery_target_name", ""),
    ("hot_standby", "off"),
];

/// What [`super::words`] reads. GMT is the one time zone that needs no files.
const READABLE: [(&str, &str); 11] = [
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("lc_messages", "C"),
    ("log_min_messages", "warning"),
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "default"),
    ("log_line_prefix", ""),
    ("log_timezone", "GMT"),
    ("timezone", "GMT"),
    // Signs of life while nothing else is said.
    ("log_checkpoints", "on"),
    ("log_statement", "none"),
];
