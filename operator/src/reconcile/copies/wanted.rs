//! Which copies are wanted of a backup, and the entries of its status that stand for them.

use dbbackup_crds::{
    Backup, BackupPhase, BackupSchedule, BackupStatus, CopyPhase, CopyStatus, LocalRef,
    MAX_LISTED_COPIES, RepositoryStatusRef,
};

/// A copy that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The repository that it goes to.
    pub repository: String,
}

impl Wanted {
    fn of(name: &str, repository: &LocalRef) -> Self {
        Self { name: name.to_owned(), repository: repository.name.clone() }
    }

    /// The entry that stands for it. One of its name for another repository does not.
    #[must_use]
    pub fn entry<'a>(&self, status: &'a BackupStatus) -> Option<&'a CopyStatus> {
        status.copies.iter().find(|copy| self.is(copy))
    }

    pub(super) fn is(&self, copy: &CopyStatus) -> bool {
        copy.name == self.name && copy.repository.name == self.repository
    }

    fn fresh(&self) -> CopyStatus {
        CopyStatus {
            name: self.name.clone(),
            repository: RepositoryStatusRef { name: self.repository.clone(), id: None },
            ..CopyStatus::default()
        }
    }
}

/// What a schedule wants of each of its backups, as it stands now.
#[must_use]
pub(super) fn of_schedule(schedule: &BackupSchedule) -> Vec<Wanted> {
    schedule.spec.copies.iter().map(|copy| Wanted::of(&copy.name, &copy.repository_ref)).collect()
}

/// What is wanted of a backup: by its own template, or by its schedule. A schedule that is
/// gone wants nothing.
#[must_use]
pub fn wanted(backup: &Backup, schedule: Option<&BackupSchedule>) -> Vec<Wanted> {
    let own = |template: &dbbackup_crds::BackupTemplate| {
        template.copies.iter().map(|copy| Wanted::of(&copy.name, &copy.repository_ref)).collect()
    };
    match &backup.spec.template {
        Some(template) => own(template),
        None => schedule.map(of_schedule).unwrap_or_default(),
    }
}

/// The snapshot that can be copied.
#[must_use]
pub fn source_snapshot(status: &BackupStatus) -> Option<&str> {
    let is_there =
        matches!(status.phase, Some(BackupPhase::Succeeded | BackupPhase::PartiallyFailed));
    status.snapshot_id.as_deref().filter(|_| is_there)
}

/// The entries of a status: those that are wanted, then those that are not any more and
/// still run, or tell of a copy that is there. An entry for another repository than its
/// name stands for now makes room once its Job has ended.
#[must_use]
pub fn entries(known: &[CopyStatus], wanted: &[Wanted]) -> Vec<CopyStatus> {
    let named = |name: &str| known.iter().find(|copy| copy.name == name);
    let mut entries: Vec<CopyStatus> = wanted
        .iter()
        .map(|wanted| match named(&wanted.name) {
            Some(copy) if wanted.is(copy) || copy.phase == CopyPhase::Running => copy.clone(),
            _ => wanted.fresh(),
        })
        .collect();
    let is_wanted = |copy: &CopyStatus| wanted.iter().any(|wanted| wanted.name == copy.name);
    let stays = |copy: &&CopyStatus| {
        !is_wanted(copy) && (copy.phase == CopyPhase::Running || copy.phase.is_done())
    };
    entries.extend(known.iter().filter(stays).cloned());
    entries.truncate(MAX_LISTED_COPIES);
    entries
}
