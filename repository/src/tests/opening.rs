//! Creating and opening: keys, encryption, and places that are something else.

use std::sync::Arc;

use dbbackup_contract::{Initialize, Reason};
use dbbackup_storage::{Effect, FaultyStore, MemoryStore};

use super::fixture::*;
use crate::keyring::{Keyring, sha256};
use crate::{
    CheckLevel, CollectOptions, Encryption, Error, ForgetReason, Instead, Kdf, KeySource,
    OpenOptions, Repository,
};

async fn reason(store: &Arc<MemoryStore>, encryption: &Encryption) -> Reason {
    opened(store.clone(), encryption).await.map(|_| ()).unwrap_err().reason()
}

fn wrong_key() -> Encryption {
    Encryption::Keys(vec![KeySource::raw("main", &[8; 32]).unwrap()])
}

#[tokio::test]
async fn a_passphrase_and_a_raw_key_open_the_same_repository() {
    let store = Arc::new(MemoryStore::new());
    let passphrase = KeySource::passphrase("old", b"correct horse\n").unwrap();
    let both = Encryption::Keys(vec![passphrase.clone(), key()]);
    let created = opened(store.clone(), &both).await.unwrap();
    assert!(created.created);
    assert_eq!(keys_of(&created), ["old", "main"]);
    for source in [passphrase, key()] {
        let again = opened(store.clone(), &Encryption::Keys(vec![source.clone()])).await.unwrap();
        assert!(!again.created);
        assert_eq!(again.repository.id(), created.repository.id());
        assert_eq!(keys_of(&again), [source.name]);
    }
    let new = KeySource::raw("new", &[9; 32]).unwrap();
    let only_new = Encryption::Keys(vec![new.clone()]);
    assert_eq!(reason(&store, &only_new).await, Reason::WrongKey);
    created.repository.add_key(&new, Kdf::Pbkdf2).await.unwrap();
    let with_new = opened(store, &only_new).await.unwrap();
    assert_eq!(keys_of(&with_new), ["new"]);
}

#[tokio::test]
async fn encryption_must_be_what_was_said() {
    let (sealed, clear) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    opened(sealed.clone(), &encrypted()).await.unwrap();
    opened(clear.clone(), &Encryption::None).await.unwrap();
    assert_eq!(reason(&sealed, &Encryption::None).await, Reason::EncryptionMismatch);
    assert_eq!(reason(&clear, &encrypted()).await, Reason::EncryptionMismatch);
}

#[tokio::test]
async fn a_place_that_is_empty_or_something_else_is_told_apart() {
    let never = Repository::open(Arc::new(MemoryStore::new()), &encrypted()).await;
    assert_eq!(never.unwrap_err().reason(), Reason::RepositoryNotFound);
    let foreign = Arc::new(MemoryStore::new());
    foreign.overwrite("holiday/photo-1", "x".into());
    assert_eq!(reason(&foreign, &encrypted()).await, Reason::RepositoryNotEmpty);
    let never = Repository::open(foreign, &encrypted()).await.unwrap_err();
    assert_eq!(never.reason(), Reason::RepositoryNotFound);
    assert_eq!(never.to_string(), "there is no repository here, but other things: holiday/photo-1");
    let gone = Arc::new(MemoryStore::new());
    let repository = open(gone.clone()).await.unwrap();
    back_up(&repository, 1, &contents(1)).await.unwrap();
    dbbackup_storage::Store::delete(&*gone, "config/0").await.unwrap();
    assert_eq!(reason(&gone, &encrypted()).await, Reason::ObjectMissing);
}

#[tokio::test]
async fn a_repository_in_a_folder_below_is_told_of() {
    let below = async |names: &[&str]| {
        let store = Arc::new(MemoryStore::new());
        names.iter().for_each(|name| store.overwrite(name, "x".into()));
        let never = Repository::open(store.clone(), &encrypted()).await.unwrap_err();
        let created = opened(store, &encrypted()).await.map(drop).unwrap_err();
        assert_eq!(never.to_string(), created.to_string());
        assert_eq!(created.reason(), Reason::RepositoryNotEmpty);
        match never {
            Error::RepositoryNotFound(Instead::Below(folder)) => Some(folder),
            Error::RepositoryNotFound(Instead::Others(_)) => None,
            other => panic!("{other}"),
        }
    };
    let found = |folder: &str| Some(folder.to_owned());
    assert_eq!(below(&["dbbackup/beats/x", "dbbackup/config/0"]).await, found("dbbackup"));
    assert_eq!(below(&["a", "b/c/keys/x", "b/c/config/7"]).await, found("b/c"));
    assert_eq!(below(&["keys/keys/x", "other/config/0"]).await, found("other"));
    assert_eq!(below(&["photos/config/camera", "photos/keys/0"]).await, None);
}

#[tokio::test]
async fn what_has_no_slots_name_among_the_slots_keeps_nobody_out() {
    let store = Arc::new(MemoryStore::new());
    open(store.clone()).await.unwrap();
    // A store cannot be asked for the first: no driver would create it.
    let foreign = ["keys/A", "keys/a", "keys/readme.txt"];
    foreign.iter().for_each(|name| store.overwrite(name, "x".into()));
    let repository = open(store.clone()).await.unwrap();
    assert_eq!(repository.key_slots().await.unwrap().len(), 1);
    let report = repository.check(CheckLevel::Structure).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let noted: Vec<_> = report.notes.iter().map(|note| &note.object[..]).collect();
    assert!(foreign.iter().all(|name| noted.contains(name)), "{noted:?}");
    // Which key is wrong is told as if they were not there.
    assert_eq!(reason(&store, &wrong_key()).await, Reason::WrongKey);
}

/// A config of this JSON whose SHA-256 fits, and whose MAC `keys` have made.
fn config(keys: &Keyring, name: &str, json: &str) -> bytes::Bytes {
    let mut object = b"dbbkconf".to_vec();
    object.extend_from_slice(&(json.len() as u32).to_le_bytes());
    object.extend_from_slice(json.as_bytes());
    object.extend_from_slice(&sha256(&object));
    object.extend_from_slice(&keys.config_mac(name, &object));
    object.into()
}

#[tokio::test]
async fn a_config_that_no_holder_of_the_key_has_written_keeps_nobody_out() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let id = repository.id();
    let rest = |id: &str, encryption: &str| {
        let time = "2026-01-01T00:00:00Z";
        format!(r#""repositoryId":"{id}","encryption":"{encryption}","createdTime":"{time}""#)
    };
    let (ours, others) = (id.to_string(), "0".repeat(32));
    let forged = [
        format!(r#"{{"version":0,{}}}"#, rest(&ours, "aes-256-gcm")),
        format!(r#"{{"version":0,{}}}"#, rest(&ours, "none")),
        format!(r#"{{"version":0,{}}}"#, rest(&others, "aes-256-gcm")),
        format!(r#"{{"version":0,{}}}"#, rest(&others, "rot13")),
        format!(r#"{{"version":0,{},"features":{{"incompatible":["x"]}}}}"#, rest(&ours, "none")),
        r#"{"version":1}"#.to_owned(),
    ];
    for (n, json) in (7..).zip(&forged) {
        let name = format!("config/{n}");
        store.overwrite(&name, config(&Keyring::for_tests(), &name, json));
        let again = open(store.clone()).await.unwrap_or_else(|error| panic!("{json}: {error}"));
        assert_eq!(again.id(), id);
        assert_eq!(reason(&store, &wrong_key()).await, Reason::WrongKey, "{json}");
        assert_eq!(reason(&store, &Encryption::None).await, Reason::EncryptionMismatch, "{json}");
    }
    let report = repository.check(CheckLevel::Structure).await.unwrap();
    assert_eq!((report.configs, report.problems.len()), (1, forged.len()));
    // What a holder of the key says counts, with the highest number that one has used.
    let keys = &repository.inner.keys;
    let ours = rest(&ours, "aes-256-gcm");
    let read_only = format!(r#"{{"version":0,{ours},"features":{{"readOnly":["x"]}}}}"#);
    store.overwrite("config/1", config(keys, "config/1", &read_only));
    let limited = open(store.clone()).await.unwrap();
    let refused = limited.begin(session(1)).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.reason(), Reason::RepositoryVersionUnsupported);
    store.overwrite("config/2", config(keys, "config/2", r#"{"version":1}"#));
    assert_eq!(reason(&store, &encrypted()).await, Reason::RepositoryVersionUnsupported);
}

#[tokio::test]
async fn an_initialisation_survives_a_crash_at_every_write() {
    for effect in [Effect::CrashBefore, Effect::CrashAfter, Effect::LostAcknowledgement] {
        for at in 1..=2 {
            let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
            faulty.fail_at(at, effect);
            assert!(open(faulty.clone()).await.is_err());
            faulty.revive();
            let options = crate::OpenOptions { initialize: Initialize::IfEmpty, ..options() };
            let again = Repository::open_with(faulty, &encrypted(), options).await.unwrap();
            assert_eq!(keys_of(&again), ["main"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_reads_gets_everything_back_and_writes_nothing() {
    let read_only = async |store: &Arc<MemoryStore>| {
        let initialize = Initialize::IfEmpty;
        let options = OpenOptions { initialize, read_only: true, ..options() };
        Repository::open_with(store.clone(), &encrypted(), options).await
    };
    let store = Arc::new(MemoryStore::new());
    let nothing = read_only(&store).await.unwrap_err();
    assert_eq!(nothing.reason(), Reason::RepositoryNotFound);

    let writer = open(store.clone()).await.unwrap();
    let written = contents(1);
    let id = back_up(&writer, 1, &written).await.unwrap().id().clone();
    let before = store.objects();
    let repository = read_only(&store).await.unwrap().repository;
    let session = repository.begin_reading().await.unwrap();
    let snapshot = repository.find(id.as_str()).await.unwrap();
    assert_same(&restore(&snapshot).await.unwrap(), &written);
    let report = repository.check(CheckLevel::Data).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    session.end().await.unwrap();

    let refused = [
        back_up(&repository, 2, &written).await.map(drop),
        repository.pin(&id, "").await,
        repository.forget(&id, ForgetReason::Erase, "").await,
        repository.write_off(&id, "lost").await.map(drop),
        repository.collect(&CollectOptions::default()).await.map(drop),
        repository.add_key(&KeySource::raw("new", &[9; 32]).unwrap(), Kdf::Pbkdf2).await.map(drop),
        repository.store_time().await.map(drop),
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        assert_eq!(refused.unwrap_err().reason(), Reason::RepositoryReadOnly, "{n}");
    }
    assert_eq!(store.objects(), before);
}
