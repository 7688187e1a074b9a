//! Creating or opening a repository.

use dbbackup_contract::{
    EncryptionAccess, Failure, InitAction, InitReport, Initialize, KeySlotReport, Outcome,
};
use dbbackup_repository::{Opened, Repository};

use super::{Order, open, storage};

/// Creates the repository where the action allows it, else opens it.
pub(crate) async fn init(order: &Order<'_>, action: &InitAction) -> InitReport {
    match try_init(order, action).await {
        Ok(report) => report,
        Err(error) => InitReport {
            outcome: Outcome::Failed,
            repository_id: None,
            created: false,
            key_slots: Vec::new(),
            snapshot_count: 0,
            logical_bytes: 0,
            stored_bytes: 0,
            error: Some(open::named(error, &order.repository.name)),
        },
    }
}

async fn try_init(order: &Order<'_>, action: &InitAction) -> Result<InitReport, Failure> {
    let store = order.step(storage::store(&order.repository.storage, order.stall_timeout)).await?;
    let encryption = order.step(open::encryption(&order.repository.encryption)).await?;
    // A pinned repository that is gone must not be replaced by an empty one.
    let initialize = match order.repository.expected_id {
        None => action.initialize,
        Some(_) => Initialize::Never,
    };
    let Opened { repository, created, opened_slots } = order
        .step(async {
            let opening = Repository::create_or_open(store, &encryption, initialize);
            opening.await.map_err(|error| open::refused(error, order.repository))
        })
        .await?;
    open::pinned(order.repository, &repository)?;
    let usage = order.step(repository.usage()).await?;
    Ok(InitReport {
        outcome: Outcome::Succeeded,
        repository_id: Some(repository.id().to_string()),
        created,
        key_slots: key_slots(&order.repository.encryption, &opened_slots),
        snapshot_count: usage.snapshots,
        logical_bytes: usage.logical_bytes,
        stored_bytes: usage.stored_bytes,
        error: None,
    })
}

/// Which keys of the spec opened the repository.
fn key_slots(access: &EncryptionAccess, opened: &[String]) -> Vec<KeySlotReport> {
    let EncryptionAccess::Keys(keys) = access else { return Vec::new() };
    keys.iter()
        .map(|key| KeySlotReport { name: key.name.clone(), opened: opened.contains(&key.name) })
        .collect()
}
