//! Creating or opening a repository.

use dbbackup_contract::{
    EncryptionAccess, Failure, InitAction, InitReport, Initialize, KeySlotReport, Outcome,
};
use dbbackup_repository::{
    Encryption, Kdf, OpenOptions, Opened, OpenedSlot, Repository, Rotation, SlotId,
};

use super::{Order, open, storage};

/// Most slots that are named in a report.
const MAX_NAMED_SLOTS: usize = 16;

/// Creates the repository where the action allows it, else opens it; then each key
/// that was given gets a slot, and slots whose keys are gone from the spec go. `kdf`
/// stretches the passphrases of new slots.
pub(crate) async fn init(order: &Order<'_>, action: &InitAction, kdf: Kdf) -> InitReport {
    match try_init(order, action, kdf).await {
        Ok(report) => report,
        Err(error) => InitReport {
            outcome: Outcome::Failed,
            repository_id: None,
            created: false,
            key_slots: Vec::new(),
            removed_slots: Vec::new(),
            other_slots: Vec::new(),
            snapshot_count: 0,
            logical_bytes: 0,
            stored_bytes: 0,
            error: Some(open::named(error, &order.repository.name)),
        },
    }
}

async fn try_init(order: &Order<'_>, action: &InitAction, kdf: Kdf) -> Result<InitReport, Failure> {
    let store = order.step(storage::store(order.repository, order.stall_timeout)).await?;
    let encryption = order.step(open::encryption(&order.repository.encryption)).await?;
    // A pinned repository that is gone must not be replaced by an empty one.
    let initialize = match order.repository.expected_id {
        None => action.initialize,
        Some(_) => Initialize::Never,
    };
    let Opened { repository, created, opened_slots } = order
        .step(async {
            let read_only = !order.repository.mode.may_write();
            let options = OpenOptions { initialize, read_only, kdf, ..OpenOptions::default() };
            let opening = Repository::open_with(store, &encryption, options);
            opening.await.map_err(|error| open::refused(error, order.repository))
        })
        .await?;
    open::pinned(order.repository, &repository)?;
    let rotating = rotate(&repository, &encryption, &opened_slots, &action.retired_slots, kdf);
    let rotation = order.step(rotating).await?;
    let usage = order.step(repository.usage()).await?;
    Ok(InitReport {
        outcome: Outcome::Succeeded,
        repository_id: Some(repository.id().to_string()),
        created,
        key_slots: key_slots(&order.repository.encryption, &rotation),
        removed_slots: rotation.removed.iter().map(ToString::to_string).collect(),
        other_slots: others(&rotation),
        snapshot_count: usage.snapshots,
        logical_bytes: usage.logical_bytes,
        stored_bytes: usage.stored_bytes,
        error: None,
    })
}

/// Brings the key slots in line with the spec.
async fn rotate(
    repository: &Repository,
    encryption: &Encryption,
    opened: &[OpenedSlot],
    retired: &[String],
    kdf: Kdf,
) -> Result<Rotation, Failure> {
    let Encryption::Keys(sources) = encryption else { return Ok(Rotation::default()) };
    // What is no id is no slot of ours: there is nothing to remove.
    let retired: Vec<SlotId> = retired.iter().filter_map(|slot| SlotId::parse(slot)).collect();
    Ok(repository.rotate(sources, opened, &retired, kdf).await?)
}

/// Which keys of the spec open the repository.
fn key_slots(access: &EncryptionAccess, rotation: &Rotation) -> Vec<KeySlotReport> {
    let EncryptionAccess::Keys(keys) = access else { return Vec::new() };
    let reported = keys.iter().map(|key| {
        let slot = rotation.slots.iter().find(|slot| slot.key == key.name);
        KeySlotReport {
            name: key.name.clone(),
            opened: slot.is_some(),
            slot: slot.map(|slot| slot.slot.to_string()),
            added: rotation.added.contains(&key.name),
        }
    });
    reported.collect()
}

/// Slots that no key of the spec opens.
fn others(rotation: &Rotation) -> Vec<String> {
    let named = rotation.others.iter().map(|(slot, name)| match name {
        Some(name) => name.clone(),
        None => slot.to_string(),
    });
    named.take(MAX_NAMED_SLOTS).collect()
}
