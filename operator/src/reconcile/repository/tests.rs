use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn repository() -> BackupRepository {
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupRepository",
        "metadata": {"name": "main", "namespace": "shop", "uid": "r", "generation": 1},
        "spec": {"storage": {"volume": {"claimName": "c"}}, "encryption": {"none": {}}},
    }))
    .unwrap()
}

fn report(id: Option<&str>, error: Option<Failure>) -> InitReport {
    InitReport {
        outcome: if id.is_some() { Outcome::Succeeded } else { Outcome::Failed },
        repository_id: id.map(str::to_owned),
        created: false,
        key_slots: Vec::new(),
        removed_slots: Vec::new(),
        other_slots: Vec::new(),
        snapshot_count: 2,
        logical_bytes: 3_000_000_000,
        stored_bytes: 1_000_000_000,
        error,
    }
}

fn reported(report: InitReport) -> RunView {
    RunView::Reported(Box::new(Report::Init(report)), 1)
}

fn tried() -> BackupRepositoryStatus {
    BackupRepositoryStatus {
        observed_generation: Some(1),
        attempts: Some(1),
        job_name: Some("j".into()),
        ..BackupRepositoryStatus::default()
    }
}

#[test]
fn each_generation_is_opened_once_and_then_left_alone() {
    let mut repository = repository();
    let fresh = BackupRepositoryStatus::default();
    assert_eq!(plan(&repository, &fresh, None, now()), Step::Begin(1));
    let report = report(Some("5d0c"), None);
    let run = reported(report.clone());
    let Step::Open(_) = plan(&repository, &tried(), Some(&run), now()) else { panic!() };
    let open = opened(tried(), &report, Some(1), now());
    assert_eq!(open.id.as_deref(), Some("5d0c"));
    assert_eq!(open.display.as_deref(), Some("opened with 2 snapshots, 1.0 GB stored of 3.0 GB"));
    assert_eq!(plan(&repository, &open, Some(&run), now()), Step::Nothing);
    repository.metadata.generation = Some(2);
    assert_eq!(plan(&repository, &open, None, now()), Step::Begin(1));
}

#[test]
fn a_key_that_does_not_open_the_repository_is_named_as_a_warning() {
    use dbbackup_contract::KeySlotReport;
    let mut report = report(Some("5d0c"), None);
    let slot = |name: &str, opened: bool| {
        let slot = opened.then(|| format!("{name}-slot"));
        KeySlotReport { name: name.to_owned(), opened, slot, added: false }
    };
    report.key_slots = vec![slot("first", true), slot("second", false)];
    let open = opened(tried(), &report, Some(1), now());
    assert!(holds(&open.conditions, READY, Some(1)));
    let message = &open.conditions[0].message;
    let words = "Warning: not opened by: second. These entries of encryption.keys cannot be used";
    assert!(message.contains(words), "{message}");
    let column = open.display.unwrap();
    assert!(column.ends_with("; unusable keys: second"), "{column}");
    report.key_slots = vec![slot("first", true)];
    let open = opened(tried(), &report, Some(1), now());
    assert_eq!(open.conditions[0].message, "opened with 2 snapshots, 1.0 GB stored of 3.0 GB");
}

#[test]
fn another_repository_at_the_same_place_is_refused() {
    let mut status = tried();
    status.id = Some("5d0c".into());
    let run = reported(report(Some("ffff"), None));
    let Step::Fail(failure) = plan(&repository(), &status, Some(&run), now()) else { panic!() };
    assert_eq!(failure.reason, Reason::RepositoryChanged);
}

#[test]
fn what_fails_is_tried_again_later_and_stands_as_stalled_meanwhile() {
    let wrong = Failure::new(Reason::SecretNotFound, "the Secret backup-key does not exist")
        .with_hint("Correct the reference.");
    let run = reported(report(None, Some(wrong.clone())));
    let Step::Fail(failure) = plan(&repository(), &tried(), Some(&run), now()) else { panic!() };
    let next = now() + rest(1);
    let status = failed(tried(), &failure, next, Some(1), now());
    assert!(holds(&status.conditions, crate::reasons::STALLED, Some(1)));
    assert_eq!(plan(&repository(), &status, Some(&run), now()), Step::Rest(next));
    assert_eq!(plan(&repository(), &status, Some(&run), next), Step::Begin(2));
    let told = "Correct the reference. It is tried again within a minute.";
    assert!(status.conditions[0].message.ends_with(told), "{}", status.conditions[0].message);
    // The second attempt does not flap.
    let second = BackupRepositoryStatus { attempts: Some(2), ..status };
    let again = opening(second.clone(), None, Some(1), next);
    assert_eq!(again, second);
}

#[test]
fn a_success_without_an_id_is_none() {
    let mut odd = report(None, None);
    odd.outcome = Outcome::Succeeded;
    let step = plan(&repository(), &tried(), Some(&reported(odd)), now());
    assert!(matches!(step, Step::Fail(_)));
}

#[test]
fn a_correction_is_seen_within_a_minute_for_an_hour_and_within_five_later() {
    let seconds: Vec<i64> = (1..5).map(|attempt| rest(attempt).as_secs()).collect();
    assert_eq!(seconds, [15, 30, 60, 60]);
    let first_hour: i64 = (1..=60).map(|attempt| rest(attempt).as_secs()).sum();
    assert!((3400..=3600).contains(&first_hour), "{first_hour}");
    assert_eq!(rest(61).as_secs(), 300);
}

#[test]
fn the_job_that_opens_a_repository() {
    use crate::reconcile::fixtures;
    let (repository, identity) = (fixtures::repository(), fixtures::identity("main"));
    let around = fixtures::surroundings();
    let status = BackupRepositoryStatus { id: Some("5d0c".into()), ..Default::default() };
    let job = init_job(&repository, &identity, &status, "i".into(), &around).unwrap();
    insta::assert_yaml_snapshot!(fixtures::readable(&job));
}

#[test]
fn an_attempt_takes_the_job_of_the_one_before_away_and_never_its_own() {
    let status = tried();
    assert_eq!(job_before(&status, "j2"), Some("j"));
    assert_eq!(job_before(&status, "j"), None);
    assert_eq!(job_before(&BackupRepositoryStatus::default(), "j"), None);
    // One that ended without having started is still named when the next one begins.
    let failure = Failure::new(Reason::ImagePullFailed, "no");
    let failed = failed(status, &failure, now(), Some(1), now());
    assert_eq!(plan(&repository(), &failed, None, now()), Step::Begin(2));
    assert_eq!(job_before(&failed, "j2"), Some("j"));
}

#[test]
fn an_entry_that_is_gone_has_its_slot_retired_until_a_job_has_done_it() {
    use dbbackup_contract::KeySlotReport;
    let encryption = |names: &[&str]| -> EncryptionSpec {
        let entry = |name| json!({"name": name, "passphraseSecretRef": {"name": "s"}});
        let keys: Vec<_> = names.iter().map(entry).collect();
        serde_json::from_value(json!({ "keys": keys })).unwrap()
    };
    let slot = |name: &str, added| KeySlotReport {
        name: name.to_owned(),
        opened: true,
        slot: Some(format!("{name}-slot")),
        added,
    };
    let mut report = report(Some("5d0c"), None);
    report.key_slots = vec![slot("k2025", false), slot("k2026", true)];
    report.other_slots = vec!["escrow".to_owned()];
    let both = opened(tried(), &report, Some(1), now());
    let message = &both.conditions[0].message;
    let told = ". Key slots added: k2026. Key slots that no entry of encryption.keys opens: escrow";
    assert!(message.ends_with(told), "{message}");
    assert_eq!(both.key_slots[1].slot.as_deref(), Some("k2026-slot"));
    assert!(retired_slots(&encryption(&["k2026", "k2025"]), &both).is_empty());
    // In either order: the entry may be replaced in one change, too.
    for left in [&["k2026"][..], &["k2026", "k2027"]] {
        assert_eq!(retired_slots(&encryption(left), &both), ["k2025-slot"]);
    }
    // What failed is asked for again.
    let failure = Failure::new(Reason::StorageFull, "no room");
    let failed = failed(both.clone(), &failure, now(), Some(2), now());
    assert_eq!(retired_slots(&encryption(&["k2026"]), &failed), ["k2025-slot"]);
    report.key_slots = vec![slot("k2026", false)];
    report.removed_slots = vec!["k2025-slot".to_owned()];
    report.other_slots.clear();
    let rotated = opened(failed, &report, Some(2), now());
    assert!(rotated.conditions[0].message.ends_with(". Key slots removed: k2025"));
    assert!(retired_slots(&encryption(&["k2026"]), &rotated).is_empty());
}

#[test]
fn the_task_of_a_rotation_names_the_slots_that_go() {
    use crate::reconcile::fixtures;
    let (repository, identity) = (fixtures::repository(), fixtures::identity("main"));
    let status: BackupRepositoryStatus = serde_json::from_value(json!({
        "keySlots": [{"name": "gone", "opened": true, "slot": "abc"}]
    }))
    .unwrap();
    let around = fixtures::surroundings();
    let job = init_job(&repository, &identity, &status, "i".into(), &around).unwrap();
    let job = serde_json::to_string(&job).unwrap();
    assert!(job.contains(r#"\"retiredSlots\":[\"abc\"]"#), "{job}");
}
