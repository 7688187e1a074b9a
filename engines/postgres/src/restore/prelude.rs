//! The table of contents of a database's archive, read from the repository.

use bytes::Bytes;
use dbbackup_contract::Failure;
use dbbackup_engine::{Activity, BackupSource};

use crate::archive::join::PreludeJoiner;
use crate::archive::{Layout, RoleChanges, TocEntry, TocReader};

/// Hands the prelude on, the date in its place, as long as it is taken; whether all of it was.
///
/// # Errors
/// What the repository says, and `ArchiveDamaged` where it is not what was written.
pub(super) async fn read_prelude(
    source: &dyn BackupSource,
    layout: &Layout,
    activity: &Activity,
    mut take: impl AsyncFnMut(Bytes) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let stream = &layout.prelude.stream;
    let asking = || activity.waiting_for(format!("the repository to give {stream}"));
    let mut prelude = PreludeJoiner::new(layout);
    let mut out = Vec::new();
    asking();
    let mut reader = source.open(stream).await?;
    while let Some(bytes) = reader.next().await? {
        prelude.push(bytes, &mut out);
        for bytes in out.drain(..) {
            if !take(bytes).await? {
                return Ok(false);
            }
        }
        asking();
    }
    prelude.finish()?;
    Ok(true)
}

/// Reads the entries of the table of contents.
pub(super) async fn read_contents(
    source: &dyn BackupSource,
    layout: &Layout,
    activity: &Activity,
    changes: &RoleChanges,
) -> Result<Vec<TocEntry>, Failure> {
    let mut reader = TocReader::default();
    let take = async |bytes: Bytes| {
        activity.moved(bytes.len());
        Ok(reader.push(&bytes, changes).map(|()| true)?)
    };
    read_prelude(source, layout, activity, take).await?;
    Ok(reader.finish()?)
}
