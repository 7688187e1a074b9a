//! The table of reasons: every way in which something can fail, in one place.
//!
//! A reason's name is stable: statuses, events, metrics, exit codes and the
//! documentation use it. A new failure gets a new line here, never a new
//! meaning for an old name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, ExitCode};

/// One line of the table, for the documentation.
#[derive(Clone, Copy, Debug)]
pub struct ReasonEntry {
    /// The reason.
    pub reason: Reason,
    /// What it means: the first line of its documentation.
    pub meaning: &'static str,
    /// The kinds whose conditions and events name it; none for a command's own.
    pub kinds: &'static [&'static str],
}

const REPOSITORIES: &[&str] = &["BackupRepository"];
const BACKUPS: &[&str] = &["Backup"];
/// What has snapshots.
const KEEPERS: &[&str] = &["BackupRepository", "Backup"];
const RESTORES: &[&str] = &["RestoreRequest"];
const RECOVERIES: &[&str] = &["PitrRestore"];
/// What recovers a server, a drill included.
const RECOVERERS: &[&str] = &["BackupSchedule", "PitrRestore"];
/// What asks assertions.
const ASKERS: &[&str] = &["BackupSchedule", "RestoreRequest"];
/// What may be too late.
const REQUESTS: &[&str] = &["RestoreRequest", "PitrRestore"];
/// What reads or writes a server, or a snapshot.
const RUNS: &[&str] = &["BackupSchedule", "Backup", "RestoreRequest"];
/// What reads a snapshot, a server or both, a recovery included.
const READERS: &[&str] = &["BackupSchedule", "Backup", "RestoreRequest", "PitrRestore"];
/// What has a Job.
const JOBS: &[&str] = ALL;
/// What refers to another object.
const REFERRERS: &[&str] = READERS;
const SCHEDULES: &[&str] = &["BackupSchedule"];
const SLOTS: &[&str] = &["BackupSchedule", "Backup"];
const ALL: &[&str] =
    &["BackupRepository", "BackupSchedule", "Backup", "RestoreRequest", "PitrRestore"];
const COMMANDS: &[&str] = &[];

/// The exit code of a line; `outside` where no runner ever says it.
macro_rules! exit {
    (outside) => {
        None
    };
    ($code:ident) => {
        Some(ExitCode::$code)
    };
}

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident: $class:ident, $exit:ident, $kinds:ident, $hint:literal; )+) => {
        /// Why something failed: a stable name with a class, an exit code and a hint.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason {
            $( $(#[doc = $doc])+ $name, )+
            /// A reason that this release does not know, written by a newer one.
            #[serde(other)]
            Unknown,
        }

        impl Reason {
            /// The whole table, in the order of the documentation.
            pub const TABLE: &'static [ReasonEntry] = &[
                $( ReasonEntry {
                    reason: Self::$name,
                    meaning: concat!($($doc),+),
                    kinds: $kinds,
                }, )+
            ];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$name => stringify!($name), )+
                    Self::Unknown => "Unknown",
                }
            }

            /// Whether another try can help, unless a case says otherwise.
            #[must_use]
            pub const fn class(self) -> ErrorClass {
                match self {
                    $( Self::$name => ErrorClass::$class, )+
                    Self::Unknown => ErrorClass::Fatal,
                }
            }

            /// The exit code of the runner when the failure is permanent; `None` for
            /// what is seen from outside, where no runner says anything.
            #[must_use]
            pub const fn exit_code(self) -> Option<ExitCode> {
                match self {
                    $( Self::$name => exit!($exit), )+
                    Self::Unknown => None,
                }
            }

            /// What a person can do about it, unless a case knows better.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self {
                    $( Self::$name => $hint, )+
                    Self::Unknown => "A newer release wrote this; upgrade to read it.",
                }
            }
        }
    };
}

reasons! {
    // What was asked for.
    /// the command line is wrong
    UsageError: Fatal, Usage, COMMANDS, "See --help.";
    /// the task that the operator wrote cannot be read
    TaskInvalid: Fatal, Usage, JOBS, "Operator and runner must be of the same release; set both images to one version.";
    /// a field of the spec cannot be carried out
    InvalidSpec: Fatal, Usage, ALL, "Correct the field that the message names.";

    /// a local file cannot be read or written
    LocalFileError: Fatal, Denied, JOBS, "Check the path, and that this user may read and write it.";

    // Secrets.
    /// a secret that the spec names does not exist
    SecretNotFound: Fatal, Secret, JOBS, "Create the secret in the same namespace, or correct the reference.";
    /// a secret lacks the key that is looked for
    SecretKeyNotFound: Fatal, Secret, JOBS, "Add the key to the secret, or name the right key in the reference.";

    // The repository.
    /// there is no repository at this place
    RepositoryNotFound: Fatal, NotFound, JOBS, "Check the place that is named: claim and path, or bucket and prefix. Storage of a BackupRepository cannot be changed: delete the object, which deletes no backup, and create it anew.";
    /// the place holds other things than a repository
    RepositoryNotEmpty: Fatal, Conflict, REPOSITORIES, "Choose an empty folder or prefix for the repository.";
    /// another repository lies at this place than the one that was pinned
    RepositoryChanged: Fatal, Conflict, JOBS, "Put the right volume or bucket back, or create a new BackupRepository object for the other repository.";
    /// something is to be written, and the repository is opened for reading only
    RepositoryReadOnly: Fatal, Conflict, SLOTS, "Write access: ReadWrite into the BackupRepository, or leave out --read-only; name another repository for what is to be written.";
    /// this release cannot read the repository's format
    RepositoryVersionUnsupported: Fatal, Incompatible, JOBS, "Use the release that wrote it, or a newer one.";
    /// no key that was given opens the repository
    WrongKey: Fatal, Key, JOBS, "Give a key or passphrase that has a slot in the repository. To bring in a new one, name it beside one that opens the repository.";
    /// a key slot is damaged, which is not the same as a wrong key
    KeySlotDamaged: Fatal, Damaged, JOBS, "Restore the object under keys/ from a copy of the repository, or use another key slot.";
    /// there are more key slots than are tried, and no key that was given opens one of the oldest
    TooManyKeySlots: Fatal, Key, JOBS, "Somebody who can write to the store floods it: take that right away, and delete the objects under keys/ that none of you has made. They are newer than your own.";
    /// a key slot cannot be removed, since nothing else that was given would open the repository
    KeySlotNeeded: Fatal, Conflict, REPOSITORIES, "Add another key first, or give one that opens another slot. Where somebody else removes keys at the same time, try again after that.";
    /// no such key slot
    KeySlotNotFound: Fatal, NotFound, COMMANDS, "List what there is with: dbbackup-runner key list REPOSITORY.";
    /// a key was given for an unencrypted repository, or none for an encrypted one
    EncryptionMismatch: Fatal, Key, JOBS, "Say the encryption that the repository has: keys, or none.";
    /// an object of the repository was changed, cut or swapped
    RepositoryDamaged: Fatal, Damaged, JOBS, "Run check to see which snapshots are touched; take those from a copy.";
    /// an object that a snapshot needs is gone
    ObjectMissing: Fatal, Damaged, JOBS, "Run check to see which snapshots are touched; take those from a copy.";
    /// no such snapshot
    SnapshotNotFound: Fatal, NotFound, READERS, "List what there is with: dbbackup-runner snapshots REPOSITORY.";
    /// the prefix of a snapshot's id fits several snapshots
    SnapshotAmbiguous: Fatal, Usage, RESTORES, "Give more characters of the id.";
    /// the snapshot was written off: data of it is lost
    SnapshotWrittenOff: Fatal, Damaged, READERS, "Take another snapshot. What is left of this one can be had on the command line with --even-if-written-off.";
    /// the run was given up by a later attempt or by maintenance before it could commit
    Fenced: Fatal, Conflict, SLOTS, "Nothing to do if a later attempt has succeeded; else run the backup again.";
    /// the snapshot was let go: its time was over, or somebody erased it
    SnapshotForgotten: Fatal, NotFound, READERS, "Take another snapshot; what was let go does not come back.";
    /// the snapshot is pinned, so it may not be let go
    SnapshotPinned: Fatal, Conflict, REPOSITORIES, "Unpin it first.";
    /// snapshots are gone that were there before, and nobody has let them go
    SnapshotsMissing: Fatal, Damaged, KEEPERS, "Find out who deletes objects under snapshots/. Put them back (a versioned bucket still has them); until then nothing is deleted.";
    /// maintenance would delete more than is allowed without being asked
    TooMuchToDelete: Fatal, Conflict, REPOSITORIES, "Look at the plan. If it is what you want, approve it by its digest; else correct the retention.";
    /// a stream of the snapshot does not exist
    StreamNotFound: Fatal, NotFound, RESTORES, "List what the snapshot holds with: dbbackup-runner snapshots --json REPOSITORY.";

    // Where the repository is kept.
    /// the storage did not answer as it should
    StorageUnavailable: Retryable, Retryable, JOBS, "Look at the volume or the store, and at its events.";
    /// the storage is full
    StorageFull: Fatal, NoSpace, JOBS, "Make room on the volume, or enlarge it; for a bucket, raise its quota. What was written before stays valid.";
    /// the storage may not be written or read by this user
    StoragePermissionDenied: Fatal, Denied, JOBS, "Give the Job's user (fsGroup) read and write access to the volume; for a bucket, the keys or the role the rights that docs/storage.md lists.";
    /// the storage cannot keep the promises that a repository needs
    StorageUnsuitable: Fatal, Incompatible, JOBS, "Use a file system with hard links or rename without replacement; for a bucket, a server that obeys conditional writes and takes single objects of 32 MiB (docs/storage.md).";

    // Reaching the server.
    /// the host's name is not known
    HostNotFound: Retryable, Retryable, RUNS, "Check the spelling of host; in Kubernetes a Service is NAME.NAMESPACE.svc.";
    /// nothing answers at this address
    ServerUnreachable: Retryable, Retryable, RUNS, "Check host and port, that the server runs, and that a NetworkPolicy lets the Job through.";
    /// the server is starting, stopping or recovering
    ServerNotReady: Retryable, Retryable, READERS, "Look at the server's log if it stays so.";
    /// the server has no connection left
    TooManyConnections: Retryable, Retryable, RUNS, "Raise max_connections, or let the backup role use reserved connections.";
    /// the server went away in the middle
    ServerGoneAway: Retryable, Retryable, RUNS, "Look at the server's log.";
    /// a pooler answers where the server itself is needed
    PoolerRefused: Fatal, Incompatible, RUNS, "Give the address of the server itself, not of the connection pooler.";
    /// user name or password is wrong
    WrongPassword: Fatal, Denied, RUNS, "Correct the secret that credentialsSecretRef names.";
    /// pg_hba.conf has no line that lets this connection in
    NoPgHbaEntry: Fatal, Denied, RUNS, "Add the line that the message shows to pg_hba.conf and reload the server.";
    /// the server does not speak TLS, which the spec asks for
    TlsRefused: Fatal, Denied, RUNS, "Give the server a certificate, or accept a plain connection with tls: {mode: Prefer}.";
    /// the server's certificate does not prove what the spec asks for
    TlsVerificationFailed: Fatal, Denied, RUNS, "Name the CA with tls.caRef, or accept less with tls: {mode: Require}.";

    // What the server says.
    /// the role lacks a right
    PermissionDenied: Fatal, Denied, RUNS, "Grant the right that the message names to the backup role, or use a role that has it.";
    /// the database does not exist
    DatabaseNotFound: Fatal, NotFound, RUNS, "Check the names in databases.";
    /// the backup has no such schema or table
    TableNotFound: Fatal, NotFound, RESTORES, "Write the names as the catalogue has them, in schemas and tables of the database.";
    /// the database that should be created exists
    DatabaseExists: Fatal, Conflict, RESTORES, "Nothing was done. Restore it under another name (`as`), to look at it beside the live one; or with strategy: Swap, which takes its place and keeps it. What was written since the backup is only in the existing one: do not drop it.";
    /// roles that own or may use the restored objects do not exist
    RoleNotFound: Fatal, NotFound, RESTORES, "Create the roles, or restore them too with globals: Merge.";
    /// a tablespace does not exist
    TablespaceNotFound: Fatal, NotFound, RESTORES, "Create the tablespace on the target server.";
    /// an extension is not installed on the target
    ExtensionNotAvailable: Fatal, NotFound, RESTORES, "Install the extension's package on the target server.";
    /// encoding or locale does not exist on the target
    LocaleNotAvailable: Fatal, Incompatible, RESTORES, "Install the locale on the target server, or restore to a server that has it.";
    /// the archive does not reach the point that was asked for
    TargetUnreachable: Fatal, NotFound, RECOVERERS, "Create another PitrRestore with a point within the window that the message names. For a point newer than its end wait five minutes, or take latest: {}; one before its beginning cannot be reached.";
    /// the claim of a recovered server holds other things
    VolumeNotEmpty: Fatal, Conflict, RECOVERIES, "Nothing was written to it. Name an empty claim that no pod mounts, or let one be made: to.volumeClaim.template. A claim of an earlier PitrRestore of that name is one, too: take another name then.";
    /// the volume of a recovered server has too little room
    VolumeTooSmall: Fatal, NoSpace, RECOVERERS, "status.neededBytes has what is needed: take a fifth more, since the file system and the replay need room, too. Create another PitrRestore, of another name; delete the claim of this one if it has made one (status.volumeClaimName).";
    /// the server's image cannot run what is recovered
    ServerImageUnsuitable: Fatal, Incompatible, RECOVERERS, "Name in image the server's own image: of the same major version, with all libraries that it loads.";
    /// the recovered server has ended while it replayed its log
    RecoveryFailed: Fatal, Rejected, RECOVERERS, "The message has the server's last words; for an hour all of them are in the Job's log (status.jobName). Most often the image lacks a library or a setting, or the volume fails: correct that, and create another PitrRestore. The archive is untouched.";
    /// the recovered server has stopped at another point than the one that was asked for
    TargetMissed: Fatal, Damaged, RECOVERERS, "Do not use the volume, and please report it with the Job's log. Meanwhile try another PitrRestore, to a slightly earlier time.";
    /// the server has no longer a part of its log that was not archived
    LogMissing: Retryable, Retryable, READERS, "What comes is archived again. Make a base now (a Backup with scheduleRef): until then no moment behind the gap can be recovered to, and none within it ever. Then give the archiver's replication slot more room: max_slot_wal_keep_size on the server.";
    /// the server's timeline does not come from the archived one: it was restored, or is another one
    TimelineForeign: Fatal, Conflict, RUNS, "If host leads to the wrong server, correct it. If the server was put back by another tool, create a BackupSchedule of another name for it (on the command line another series), and make a base: what was archived stays, and a PitrRestore reaches it by from.repositoryRef and from.series.";
    /// the server writes too little into its log for a physical backup
    WalLevelTooLow: Fatal, Incompatible, RUNS, "Set wal_level = replica, which is the default, and restart the server; or take the method Logical.";
    /// the server was built with other sizes of pages or files than all others
    LayoutUnsupported: Fatal, Incompatible, RUNS, "Take the method Logical.";
    /// client, server or archive are of versions that do not fit
    VersionUnsupported: Fatal, Incompatible, READERS, "Use an image of the runner that has a client of the server's major version.";
    /// a client program is not in the image
    ClientMissing: Fatal, Incompatible, RUNS, "Use the runner's own image, or install the client programs of the server's version.";
    /// a lock was not granted in time
    LockTimeout: Retryable, Retryable, RUNS, "Find the session that the message names, or run when it is done.";
    /// a database that is to be replaced is in use
    DatabaseInUse: Fatal, Conflict, RESTORES, "Stop the applications that use it; or end their sessions, by another RestoreRequest with swap: {terminateSessions: true} (--terminate-sessions).";
    /// the request was carried out before, by an object of the same name that asked for the same
    AlreadyCarriedOut: Fatal, Conflict, RESTORES, "Look at the databases. To restore them once more all the same, create a RestoreRequest of another name.";
    /// the request was carried out before, by an object of the same name, and not all of it succeeded
    CarriedOutInPart: Fatal, Conflict, RESTORES, "Look at the databases. To restore what is missing, create a RestoreRequest of another name for just that.";
    /// the plan that was approved is not the one that would be carried out now
    PlanChanged: Fatal, Conflict, RESTORES, "Look at the plan. If it is what you want, approve it by its digest.";
    /// a restored database does not answer as the restore, or the drill, asks for
    AssertionFailed: Fatal, Conflict, ASKERS, "This database was not put in place; others of the restore may be. Look at another backup, or restore again with a corrected assertion.";
    /// it was not begun, since another database of the restore has failed
    NotBegun: Fatal, Conflict, RESTORES, "Correct what has failed, or leave that database out; onError: Continue (--on-error continue) restores the others all the same.";
    /// somebody else restores to the same place now
    RestoreInProgress: Retryable, Retryable, RESTORES, "Wait for the other restore.";
    /// a database bears the scratch name but not the mark of this restore
    ScratchNotOurs: Fatal, Conflict, RESTORES, "Look at the database that the message names and drop or rename it yourself.";
    /// the server's disk is full
    DiskFull: Fatal, NoSpace, RUNS, "Make room on the server.";
    /// the server's lock table or shared memory is exhausted
    OutOfSharedMemory: Fatal, Rejected, RUNS, "Raise max_locks_per_transaction on the server.";
    /// the server found damaged data
    DataCorrupted: Fatal, Damaged, READERS, "Check the server with pg_amcheck; do not delete older backups.";
    /// a hook failed
    HookFailed: Fatal, Rejected, SLOTS, "Correct the hook's SQL, or give its role what it needs. A backup goes on without a hook before it that has onError: Continue.";
    /// the server refused a statement
    StatementFailed: Fatal, Rejected, RUNS, "The message has the server's words.";
    /// what was restored differs from what was backed up
    RowsDiffer: Fatal, Damaged, RESTORES, "The restored database was not put in place; run check on the repository.";
    /// a client program failed
    ClientFailed: Fatal, Rejected, RUNS, "The message has the program's last lines.";
    /// the dump's format is unknown or not what it should be
    ArchiveUnsupported: Fatal, Incompatible, RUNS, "Use an image of the runner for this PostgreSQL version.";
    /// the dump was cut short or is damaged
    ArchiveDamaged: Fatal, Damaged, READERS, "Look at the server's log for why the dump ended.";
    /// some databases failed, the others are done
    DatabaseFailed: Fatal, Partial, RUNS, "See the list of databases for each one's reason.";

    // Telling somebody.
    /// who is to be told could not be reached, or had no time
    NotificationFailed: Retryable, Retryable, SLOTS, "See that the receiver runs, and that a NetworkPolicy lets the Job reach it.";
    /// who is to be told does not take it
    NotificationRefused: Fatal, Rejected, SLOTS, "Correct the notification's address and credentials; the message has the receiver's answer. The next backup is told of again.";

    // How the work itself went.
    /// no byte moved for stallTimeout
    Stalled: Retryable, Retryable, READERS, "Look for locks on the server and for a slow volume or network.";
    /// the runner was told to stop
    Interrupted: Retryable, Retryable, JOBS, "Find out who ended the pod: see its namespace's events.";
    /// a child process was killed
    ChildKilled: Retryable, Retryable, READERS, "If memory was short, raise job.resources.limits.memory.";
    /// there was not enough memory
    OutOfMemory: Retryable, Retryable, JOBS, "Raise job.resources.limits.memory.";
    /// a fault of this program
    Internal: Fatal, Internal, JOBS, "Please report it with the log.";

    // What the operator sees from outside.
    /// an object that the spec refers to does not exist
    ReferenceNotFound: Retryable, outside, REFERRERS, "Create the object that the message names, in the same namespace.";
    /// an object that the spec refers to is not ready
    ReferenceNotReady: Retryable, outside, REFERRERS, "Look at the conditions of the object that the message names.";
    /// the plan is in the status, and waits for somebody who approves of it
    AwaitingApproval: Retryable, outside, RESTORES, "Look at status.plan. To carry it out, set approvedPlan to status.plan.digest.";
    /// its validUntil had passed before it began
    RequestExpired: Fatal, outside, REQUESTS, "If it is still wanted, create another one with a later validUntil.";
    /// as many backups run as the repository or the operator allows at once, in the namespace or in all
    Queued: Retryable, outside, BACKUPS, "It begins when its turn comes. To let more run at once, raise the limit that it waits for: maxConcurrentJobs of the BackupRepository; of the chart maxConcurrentJobsPerNamespace or maxConcurrentJobs.";
    /// the volume claim does not exist or is not bound
    ClaimNotFound: Retryable, outside, JOBS, "Create the claim that the message names, or see why it is not bound: kubectl describe pvc.";
    /// no node can take the pod
    Unschedulable: Retryable, outside, JOBS, "Compare job.resources and job.nodeSelector with the nodes.";
    /// the image cannot be pulled
    ImagePullFailed: Fatal, outside, JOBS, "Correct the runner's image in the chart's values, bring it to the registry, or give job.imagePullSecrets.";
    /// the Backup of a slot could not be created: quota, policy or admission
    BackupRejected: Retryable, outside, SCHEDULES, "Raise the quota, let old Backups go (their deletion deletes no backup), or change what the policy or webhook that the message names forbids.";
    /// the pod could not be created: quota, policy or admission
    PodRejected: Fatal, outside, JOBS, "Raise the quota, or change what the policy or webhook that the message names forbids.";
    /// the pod did not start within startTimeout
    StartTimeout: Fatal, outside, JOBS, "Look at the pod's events; raise job.startTimeout if the cluster is slow.";
    /// the pod was evicted or its node went away
    PodDisrupted: Retryable, outside, JOBS, "Look at the node if it happens again.";
    /// the pod ended in a way that tells nothing
    PodFailed: Fatal, outside, JOBS, "Look at the pod's log.";
    /// what became of the run is not known: neither report nor termination message arrived, or it ended while it committed
    OutcomeUnknown: Retryable, Retryable, JOBS, "The repository is asked what became of the run.";
    /// the run left no snapshot in the repository
    NothingCommitted: Fatal, outside, BACKUPS, "Look at the pod's log, then run the backup again.";
    /// the Job of a run is gone
    JobGone: Retryable, outside, JOBS, "Find out who deletes Jobs in this namespace.";
    /// the slot is longer ago than startingDeadlineSeconds
    DeadlineExceeded: Fatal, outside, SLOTS, "Run a Backup by hand if this one is missed.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In a schema a reason is a CamelCase string, so that a newer release's
/// reasons are valid in an older CRD.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for Reason {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "maxLength": 64})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_keeps_its_name_on_the_wire_and_says_what_to_do() {
        for entry in Reason::TABLE {
            let json = serde_json::to_string(&entry.reason).unwrap();
            assert_eq!(json, format!("\"{}\"", entry.reason));
            let hint = entry.reason.hint();
            assert!(
                hint.ends_with('.') && hint.len() > 10 || hint == "See --help.",
                "{}: {hint}",
                entry.reason
            );
        }
    }

    #[test]
    fn retryable_reasons_do_not_exit_with_a_permanent_code() {
        for entry in Reason::TABLE {
            let permanent = entry.reason.exit_code().is_some_and(ExitCode::is_permanent);
            assert!(
                entry.reason.class() != ErrorClass::Retryable || !permanent,
                "{}",
                entry.reason
            );
            // What ended reads oddly with it; what goes on says it itself.
            assert!(!entry.reason.hint().contains("tried again"), "{}", entry.reason);
        }
    }
}
