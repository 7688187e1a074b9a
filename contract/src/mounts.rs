//! Where a Job's pod finds what the operator gives it.

/// Folder of the downward-API volume with the task.
pub const TASK_DIR: &str = "/run/dbbackup/task";
/// The task: the value of the pod's annotation [`TASK_ANNOTATION`], as a file.
pub const TASK_FILE: &str = "/run/dbbackup/task/task.json";
/// The annotation of the pod's template that holds the task, as JSON.
pub const TASK_ANNOTATION: &str = "dbbackup.dev/task";
/// Most bytes of a task.
pub const MAX_TASK_BYTES: usize = 64 * 1024;
/// Folder below which each secret or config map is mounted, whole, in a folder of its own.
pub const SECRETS_DIR: &str = "/run/dbbackup/secrets";
/// Folder of the projected token for the report channel.
pub const REPORT_TOKEN_DIR: &str = "/run/dbbackup/report-token";
/// The projected token for the report channel.
pub const REPORT_TOKEN_FILE: &str = "/run/dbbackup/report-token/token";
/// Audience of that token.
pub const REPORT_AUDIENCE: &str = "dbbackup.dev";
/// Where a volume repository's claim is mounted.
pub const REPOSITORY_DIR: &str = "/repository";
/// Where the claim is mounted of the volume repository that a copy goes to.
pub const DESTINATION_DIR: &str = "/destination";
/// An empty folder in memory, for the files that clients of a server need.
pub const SCRATCH_DIR: &str = "/run/dbbackup/scratch";
/// Where the summary for the pod's status is written.
pub const TERMINATION_FILE: &str = "/dev/termination-log";
/// Most bytes of that summary.
pub const MAX_TERMINATION_BYTES: usize = 2048;
/// Path of the report channel on the operator's Service.
pub const REPORT_PATH: &str = "/v1/report";
/// Where the claim of a recovered server is mounted, in the runner and beside it.
pub const RECOVERED_DIR: &str = "/recovered";
/// The data folder of a recovered server on its claim.
pub const RECOVERED_DATA_FOLDER: &str = "pgdata";
/// A folder that the runner and the server beside it share.
pub const SERVER_DIR: &str = "/run/dbbackup/server";
/// The program that starts the server, in that folder.
pub const SHIM_FILE: &str = "/run/dbbackup/server/dbbackup-shim";
/// The socket by which that program asks the runner what to do.
pub const SHIM_SOCKET: &str = "/run/dbbackup/server/shim.sock";
