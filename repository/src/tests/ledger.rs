//! What was carried out is known to whoever opens the repository later.

use std::sync::Arc;

use dbbackup_contract::Reason;
use dbbackup_storage::MemoryStore;
use serde_json::json;

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_entry_of_a_request_stays_and_is_found_by_what_it_is_made_of() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let key = repository.ledger_key("shop", "back", "sha256:1", "7");
    assert_eq!(repository.carried_out(&key).await.unwrap(), None);
    let report = json!({"outcome": "Succeeded"});
    let first =
        repository.note_carried_out(&key, "uid-1", "shop/back", report.clone()).await.unwrap();
    let again = repository.note_carried_out(&key, "uid-2", "shop/back", json!({})).await.unwrap();
    assert_eq!((&again, &first.report), (&first, &report));
    let later = open(store.clone()).await.unwrap();
    let same = later.ledger_key("shop", "back", "sha256:1", "7");
    assert_eq!(later.carried_out(&same).await.unwrap(), Some(first));
    for (namespace, name, digest) in [
        ("shop", "back", "sha256:2"),
        ("shop", "other", "sha256:1"),
        ("other", "back", "sha256:1"),
        ("sho", "pback", "sha256:1"),
    ] {
        let other = later.ledger_key(namespace, name, digest, "7");
        assert_eq!(later.carried_out(&other).await.unwrap(), None, "{namespace}/{name} {digest}");
    }
    let elsewhere = later.ledger_key("shop", "back", "sha256:1", "8");
    assert_eq!(later.carried_out(&elsewhere).await.unwrap(), None, "another server");
    let name = store.objects().into_keys().find(|name| name.starts_with("ledger/")).unwrap();
    assert!(!name.contains("shop") && !name.contains("back"), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_stands_for_what_may_have_been_carried_out() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let key = repository.ledger_key("shop", "back", "sha256:1", "7");
    repository.note_carried_out(&key, "uid-1", "shop/back", json!({})).await.unwrap();
    let name = format!("ledger/{}", key.as_str());
    let mut bytes = store.objects()[&name].to_vec();
    bytes[60] ^= 1;
    store.overwrite(&name, bytes.into());
    let error = repository.carried_out(&key).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RepositoryDamaged, "{error}");
    let noted = repository.note_carried_out(&key, "uid-2", "shop/back", json!({})).await;
    assert_eq!(noted.unwrap_err().reason(), Reason::RepositoryDamaged);
}
