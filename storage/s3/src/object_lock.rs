//! Object Lock: what a repository cannot do without stays, whoever wants it gone.
//!
//! The bucket has to have it switched on, and keeps versions then: who deletes hides an
//! object, and its version stays until the lock is over.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockEnabled, ObjectLockMode as LockMode, ObjectLockRetention, ObjectLockRetentionMode,
};
use dbbackup_contract::{ObjectLock, ObjectLockMode};
use dbbackup_storage::{ErrorKind, Operation, Result};

use crate::bucket::Bucket;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What a snapshot cannot be restored without, and the logs that lead on from it. Sessions, decisions
/// and the collector's notes come and go.
const LOCKED: [&str; 6] = ["config/", "keys/", "logs/", "meta/", "packs/", "snapshots/"];

/// How long a lock lasts.
pub(crate) fn duration(lock: ObjectLock) -> Duration {
    DAY * u32::from(lock.days)
}

/// Mode and end of the lock of a new object, by this machine's clock; none for what is not
/// locked.
pub(crate) fn of_new(lock: ObjectLock, name: &str) -> Option<(LockMode, DateTime)> {
    let locked = LOCKED.iter().any(|folder| name.starts_with(folder));
    let mode = match lock.mode {
        ObjectLockMode::Compliance => LockMode::Compliance,
        ObjectLockMode::Governance => LockMode::Governance,
    };
    locked.then(|| (mode, DateTime::from(SystemTime::now() + duration(lock))))
}

/// Makes sure that the bucket has Object Lock.
///
/// # Errors
/// `Misconfigured` if it has not; `PermissionDenied` if nobody may ask.
pub(crate) async fn look(bucket: &Bucket) -> Result<()> {
    let request = bucket.client.get_object_lock_configuration().bucket(&bucket.name);
    let enabled = match bucket.answer(0, request.send()).await {
        Ok(answer) => answer
            .object_lock_configuration()
            .and_then(|found| found.object_lock_enabled())
            .is_some_and(|enabled| *enabled == ObjectLockEnabled::Enabled),
        Err(failed) if failed.code == "ObjectLockConfigurationNotFoundError" => false,
        Err(failed) => return Err(bucket.unopened(failed)),
    };
    if enabled {
        return Ok(());
    }
    let detail = "Object Lock is asked for, and the bucket has it switched off";
    Err(bucket.error(ErrorKind::Misconfigured, detail))
}

/// Lets the lock of an object begin anew if less than half of it is left. Says whether
/// it did.
///
/// # Errors
/// What the server says.
pub(crate) async fn keep(bucket: &Bucket, lock: ObjectLock, name: &str) -> Result<bool> {
    let failure = |failed| bucket.failure(failed, Operation::Keep, name);
    let request = bucket.client.head_object().bucket(&bucket.name).key(bucket.key(name));
    let found = bucket.answer(0, request.send()).await.map_err(failure)?;
    let until = found.object_lock_retain_until_date().and_then(|at| SystemTime::try_from(*at).ok());
    let enough = SystemTime::now() + duration(lock) / 2;
    if until.is_some_and(|until| until >= enough) {
        return Ok(false);
    }
    // A lock of the stricter mode cannot be exchanged for one of the other.
    let mode = match (found.object_lock_mode(), lock.mode) {
        (Some(LockMode::Compliance), _) | (_, ObjectLockMode::Compliance) => {
            ObjectLockRetentionMode::Compliance
        }
        _ => ObjectLockRetentionMode::Governance,
    };
    let retention = ObjectLockRetention::builder()
        .mode(mode)
        .retain_until_date(DateTime::from(SystemTime::now() + duration(lock)))
        .build();
    let request = bucket
        .client
        .put_object_retention()
        .bucket(&bucket.name)
        .key(bucket.key(name))
        .retention(retention);
    bucket.answer(0, request.send()).await.map_err(failure)?;
    Ok(true)
}
