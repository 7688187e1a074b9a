//! What schedules and backups want of a repository's maintenance. It is read from the API
//! server, not from a watch that may lag: a pin that was set before the Job was created
//! holds before it lets anything go.

use std::collections::BTreeSet;
use std::fmt::Debug;

use dbbackup_contract::{
    DurationText, Failure, MAX_CHANGED_SNAPSHOTS, Reason, RetainChange, RetentionSpec,
    SeriesRetention,
};
use dbbackup_crds::{
    Backup, BackupPhase, BackupRepository, BackupSchedule, CopyPhase, CopyStatus,
    RepositoryStatusRef,
};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::context::{Context, Guarded, Identity, ReconcileError};
use crate::labels;
use crate::names::{schedule_series, slot_of_snapshot};

/// Objects that are read at once.
const PAGE: u32 = 500;

/// What is asked of a maintenance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The series of the schedules that name the repository, for their backups or a copy.
    pub series: Vec<SeriesRetention>,
    /// Snapshots to pin.
    pub pin: Vec<String>,
    /// Snapshots whose pins are taken back.
    pub unpin: Vec<String>,
    /// Snapshots to erase.
    pub erase: Vec<String>,
    /// Snapshots with another `retainFor` than they were made with.
    pub retain: Vec<RetainChange>,
}

pub(super) async fn gather(
    context: &Context,
    identity: &Identity,
    repository: &BackupRepository,
    now: Timestamp,
) -> Result<Result<Asked, Failure>, ReconcileError> {
    let schedules = list::<BackupSchedule>(context, &identity.namespace).await?;
    let backups = list::<Backup>(context, &identity.namespace).await?;
    let unreadable = backups.iter().find(|backup| backup.0.is_err());
    if let Some(backup) = unreadable {
        let name = backup.name_any();
        let message = format!("the Backup {name} cannot be read: it may be pinned");
        return Ok(Err(Failure::new(Reason::InvalidSpec, message)
            .with_hint("Delete the object; that deletes no data. Or use the newer operator.")));
    }
    let series = schedules.iter().filter_map(|schedule| schedule.0.as_ref().ok());
    let series = of_schedules(&context.cluster, identity, series);
    let backups = backups.iter().filter_map(readable);
    Ok(Asked::of_backups(identity, repository, series, backups, now).bounded())
}

/// Every object of a kind in a namespace, those that cannot be read among them.
pub(crate) async fn list<K>(
    context: &Context,
    namespace: &str,
) -> Result<Vec<Guarded<K>>, ReconcileError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<Guarded<K>> = Api::namespaced(context.client.clone(), namespace);
    let (mut all, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page = api.list(&params).await;
        let page =
            page.map_err(|error| ReconcileError::Read("the namespace's objects", Box::new(error)))?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => params = params.continue_token(&more),
            None => return Ok(all),
        }
    }
}

pub(super) fn readable<K: Resource>(object: &Guarded<K>) -> Option<&K> {
    object.0.as_ref().ok()
}

/// The series that schedules stand for.
pub(super) fn of_schedules<'a>(
    cluster: &str,
    identity: &Identity,
    schedules: impl Iterator<Item = &'a BackupSchedule>,
) -> Vec<SeriesRetention> {
    let series = schedules.filter_map(|schedule| {
        Some(SeriesRetention {
            series: schedule_series(cluster, &identity.namespace, &schedule.name_any()),
            retention: retention_in(&identity.name, schedule)?,
            time_zone: schedule.spec.time_zone.clone(),
        })
    });
    series.collect()
}

/// How long a schedule keeps in this repository what is its own there, or its copies; `None`
/// where it names it neither so nor so.
fn retention_in(repository: &str, schedule: &BackupSchedule) -> Option<Option<RetentionSpec>> {
    let spec = &schedule.spec;
    if spec.repository_ref.name == repository {
        return Some(spec.retention.clone());
    }
    let copy = spec.copies.iter().find(|copy| copy.repository_ref.name == repository)?;
    Some(copy.retention.clone())
}

impl Asked {
    /// What the objects of backups want that the repository does not know yet.
    pub(super) fn of_backups<'a>(
        identity: &Identity,
        repository: &BackupRepository,
        series: Vec<SeriesRetention>,
        backups: impl Iterator<Item = &'a Backup>,
        now: Timestamp,
    ) -> Self {
        let id = repository.status.as_ref().and_then(|status| status.id.as_deref());
        let mut asked = Self { series, ..Self::default() };
        let (mut pinned, mut over) = (BTreeSet::new(), Vec::new());
        for backup in backups {
            if let Some(snapshot) = snapshot_in(backup, &identity.name, id) {
                asked.add(backup, snapshot);
                pinned.extend(Some(snapshot).filter(|_| backup.spec.pinned));
                match retain_of_imported(backup, snapshot, &asked.series, now) {
                    Some((change, true)) => asked.retain.push(change),
                    Some((change, false)) => over.push(change),
                    None => {}
                }
            }
            asked.add_copies(backup, &identity.name, id);
        }
        // Two objects may stand for one snapshot: it is pinned if one of them says so.
        asked.unpin.retain(|snapshot| !pinned.contains(snapshot.as_str()));
        // Those for which there is no room are told of the next time.
        over.truncate(MAX_CHANGED_SNAPSHOTS.saturating_sub(asked.retain.len()));
        asked.retain.extend(over);
        asked
    }

    fn add(&mut self, backup: &Backup, snapshot: &str) {
        let Some(status) = &backup.status else { return };
        match (backup.spec.pinned, status.pinned) {
            (true, false) => self.pin.push(snapshot.to_owned()),
            (false, true) => self.unpin.push(snapshot.to_owned()),
            _ => {}
        }
        if backup.spec.erase.as_ref().is_some_and(|erase| erase.confirm == snapshot) {
            self.erase.push(snapshot.to_owned());
        }
        if backup.spec.imported.is_some() {
            return;
        }
        let is_scheduled = labels::slot_of(backup).is_some();
        let as_made = status.resolved.as_ref().and_then(|resolved| resolved.retain_for.as_ref());
        if !is_scheduled && backup.spec.retain_for.as_ref() != as_made {
            let seconds = backup.spec.retain_for.as_ref().and_then(seconds);
            self.retain.push(RetainChange { snapshot: snapshot.to_owned(), seconds });
        }
    }

    /// What is erased is erased everywhere. All else that a backup says of its snapshot
    /// holds in its own repository alone.
    fn add_copies(&mut self, backup: &Backup, repository: &str, id: Option<&str>) {
        let Some(status) = &backup.status else { return };
        let own = status.snapshot_id.as_ref();
        if backup.spec.erase.as_ref().is_some_and(|erase| Some(&erase.confirm) == own) {
            let copies = status.copies.iter().filter_map(|copy| copy_in(copy, repository, id));
            self.erase.extend(copies.map(str::to_owned));
        }
    }

    /// What one task has room for. While there are more pins to record, nothing is let go.
    fn bounded(mut self) -> Result<Self, Failure> {
        if self.retain.len() > MAX_CHANGED_SNAPSHOTS {
            let message = format!(
                "{} Backups have another retainFor than they were made with; {MAX_CHANGED_SNAPSHOTS} \
                 are the most",
                self.retain.len()
            );
            return Err(Failure::new(Reason::InvalidSpec, message)
                .with_hint("Pin those that are to stay, and take the new retainFor back."));
        }
        if self.pin.len() > MAX_CHANGED_SNAPSHOTS {
            self.series.clear();
        }
        for list in [&mut self.pin, &mut self.unpin, &mut self.erase] {
            list.truncate(MAX_CHANGED_SNAPSHOTS);
        }
        Ok(self)
    }
}

/// Until when an imported backup is wanted, and whether that must be told. What it was made
/// with is not known, so each maintenance is told again. Where no schedule stands for its
/// series nothing lets it go before, and that its time is over is all there is to tell.
fn retain_of_imported(
    backup: &Backup,
    snapshot: &str,
    series: &[SeriesRetention],
    now: Timestamp,
) -> Option<(RetainChange, bool)> {
    backup.spec.imported.as_ref()?;
    let wanted = backup.spec.retain_for.as_ref().and_then(seconds)?;
    let own = backup.status.as_ref()?.series.as_ref();
    let has_policy = series.iter().any(|known| Some(&known.series) == own);
    let age = now.duration_since(slot_of_snapshot(snapshot)?).as_secs();
    let is_over = u64::try_from(age).is_ok_and(|age| age >= wanted);
    let change = RetainChange { snapshot: snapshot.to_owned(), seconds: Some(wanted) };
    (has_policy || is_over).then_some((change, has_policy))
}

/// For how long, in seconds; the schema has checked the text.
pub(crate) fn seconds(text: &DurationText) -> Option<u64> {
    text.parse().ok().map(|duration| duration.as_secs())
}

/// The snapshot of a backup that lies in this repository, as far as its object knows.
pub(super) fn snapshot_in<'a>(
    backup: &'a Backup,
    repository: &str,
    id: Option<&str>,
) -> Option<&'a str> {
    let status = backup.status.as_ref()?;
    let is_there =
        matches!(status.phase, Some(BackupPhase::Succeeded | BackupPhase::PartiallyFailed));
    let is_ours = is_in(status.repository.as_ref()?, repository, id);
    status.snapshot_id.as_deref().filter(|_| is_there && is_ours)
}

/// The snapshot of a copy that lies in this repository.
pub(super) fn copy_in<'a>(
    copy: &'a CopyStatus,
    repository: &str,
    id: Option<&str>,
) -> Option<&'a str> {
    let is_there = copy.phase == CopyPhase::Succeeded && is_in(&copy.repository, repository, id);
    copy.snapshot_id.as_deref().filter(|_| is_there)
}

/// Whether a status speaks of the repository of this name and id.
pub(crate) fn is_in(known: &RepositoryStatusRef, repository: &str, id: Option<&str>) -> bool {
    known.name == repository && (known.id.is_none() || known.id.as_deref() == id)
}
