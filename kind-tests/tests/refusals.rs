//! What the API server refuses, and whether its words tell a person what to write instead.

use dbbackup_kind_tests::Scenario;

/// A valid object of each kind, to be broken one field at a time.
const REPOSITORY: &str = "
apiVersion: dbbackup.dev/v1alpha1
kind: BackupRepository
metadata: {name: main}
spec:
  storage: {volume: {claimName: backups}}
  encryption: {keys: [{name: first, passphraseSecretRef: {name: backup-key}}]}
";
const SCHEDULE: &str = r#"
apiVersion: dbbackup.dev/v1alpha1
kind: BackupSchedule
metadata: {name: nightly}
spec:
  repositoryRef: {name: main}
  source: {postgresql: {host: db, credentialsSecretRef: {name: db}}}
  schedule: "15 3 * * *"
"#;
const BACKUP: &str = "
apiVersion: dbbackup.dev/v1alpha1
kind: Backup
metadata: {name: now}
spec: {scheduleRef: {name: nightly}}
";
const RESTORE: &str = "
apiVersion: dbbackup.dev/v1alpha1
kind: RestoreRequest
metadata: {name: back}
spec: {from: {backupRef: {name: now}}}
";
const PITR: &str = "
apiVersion: dbbackup.dev/v1alpha1
kind: PitrRestore
metadata: {name: then}
spec:
  from: {scheduleRef: {name: nightly}}
  recoveryTarget: {time: '2026-11-20T14:37:00.250+01:00'}
  image: postgres:17
  to: {volumeClaim: {template: {size: 1Gi}}}
";

#[test]
fn what_is_wrong_is_refused_with_words_that_say_what_to_write() {
    let scenario = Scenario::begin("refusals");
    let hook = |name| format!("{{name: {name}, database: shop, sql: '{}'}}", "x".repeat(8192));
    let all = ["a", "b", "c", "d"].map(hook).join(", ");
    let too_much = format!("  hooks: {{before: [{all}]}}\n  schedule:");
    let wrong = [
        (
            REPOSITORY,
            "{keys: [{name: first, passphraseSecretRef: {name: backup-key}}]}",
            "{}",
            "encryption",
        ),
        (
            REPOSITORY,
            "passphraseSecretRef: {name: backup-key}",
            "passphraseSecretRef: {name: a}, keySecretRef: {name: b}",
            "exactly one",
        ),
        (REPOSITORY, "{volume: {claimName: backups}}", "{}", "storage"),
        (REPOSITORY, "{volume:", "{gcs: {bucket: acme-backups}, volume:", "exactly one of"),
        (
            REPOSITORY,
            "volume: {claimName: backups}",
            "s3: {bucket: b.b, prefix: /x}",
            "backups/shop",
        ),
        (
            REPOSITORY,
            "volume: {claimName: backups}",
            "s3: {bucket: acme, endpoint: 's3.example.com'}",
            "write https://s3.example.com",
        ),
        (
            REPOSITORY,
            "volume: {claimName: backups}",
            "s3: {bucket: acme, endpoint: 'https://me:secret@s3.example.com'}",
            "without a path, user or keys",
        ),
        (
            REPOSITORY,
            "volume: {claimName: backups}",
            "s3: {bucket: acme, objectLock: {mode: Compliance, period: 12h}}",
            "a number of days",
        ),
        (SCHEDULE, "15 3 * * *", "0 15 3 * * *", "five fields"),
        (
            SCHEDULE,
            "  source:",
            "  notifications: [{name: ops}]\n  source:",
            "exactly one of webhook and email",
        ),
        (
            SCHEDULE,
            "  source:",
            "  notifications: [{name: ops, webhook: {url: 'https://hook/?token=a'}}]\n  source:",
            "urlSecretRef",
        ),
        (
            SCHEDULE,
            "  source:",
            "  notifications: [{name: ops, email: {host: mail, tls: None, from: 'a@b', to: ['c@d'], credentialsSecretRef: {name: m}}}]\n  source:",
            "no password is sent",
        ),
        (
            SCHEDULE,
            "  source:",
            "  notifications: [{name: ops, email: {host: mail, from: 'Me <a@b>', to: ['c@d']}}]\n  source:",
            "from is an address alone",
        ),
        (
            SCHEDULE,
            "  source:",
            "  notifications: [{name: ops, email: {host: mail, from: 'a@b', to: ['Me <c@d>']}}]\n  source:",
            "to has addresses alone",
        ),
        (SCHEDULE, "name: nightly", "name: a-schedule-with-a-name-that-is-longer-than-forty", "40"),
        (
            SCHEDULE,
            "{postgresql: {host: db, credentialsSecretRef: {name: db}}}",
            "{}",
            "postgresql",
        ),
        (SCHEDULE, "host: db,", "host: db, port: 70000,", "65535"),
        (SCHEDULE, "host: db,", "host: \"db.shop.svc:5432\",", "the port has its own field"),
        (SCHEDULE, "host: db,", "host: \"[fd00::7]:5432\",", "the port has its own field"),
        (SCHEDULE, "host: db,", "host: \"postgresql://db/shop\",", "not a URL"),
        (SCHEDULE, "host: db,", "host: \"[fd00::7]\",", "IPv6 address without brackets"),
        (SCHEDULE, "host: db,", "host: \"db shop\",", "letters, digits"),
        (REPOSITORY, "claimName: backups", "claimName: backups, path: /x", "not /dbbackup"),
        (REPOSITORY, "claimName: backups", "claimName: backups, path: x/", "none at the end"),
        (REPOSITORY, "claimName: backups", "claimName: backups, path: ../x", "without . and .."),
        (SCHEDULE, "  schedule:", "  job: {stallTimeout: 5x}\n  schedule:", "stallTimeout"),
        (
            SCHEDULE,
            "  schedule:",
            "  hooks: {before: [{name: a, database: shop, sql: checkpoint, timeout: 0s}]}\n  schedule:",
            "such as 60s",
        ),
        (SCHEDULE, "  schedule:", &too_much, "into a function of the database"),
        (
            SCHEDULE,
            "  schedule:",
            "  job: {podSecurityContext: {runAsUser: 0}}\n  schedule:",
            "never runs as root",
        ),
        (
            SCHEDULE,
            "  schedule:",
            "  job: {securityContext: {allowPrivilegeEscalation: true}}\n  schedule:",
            "needs no privileges",
        ),
        (
            SCHEDULE,
            "  schedule:",
            "  job: {podSecurityContext: {seccompProfile: {type: Unconfined}}}\n  schedule:",
            "never unconfined",
        ),
        (BACKUP, "{scheduleRef: {name: nightly}}", "{}", "scheduleRef"),
        (
            BACKUP,
            "{name: nightly}}",
            "{name: nightly}, imported: {repositoryRef: {name: main}, snapshotId: a-b-c-0}}",
            "exactly one of",
        ),
        (
            BACKUP,
            "{scheduleRef: {name: nightly}}",
            "{imported: {repositoryRef: {name: main}, snapshotId: \"../a\"}}",
            "snapshotId",
        ),
        (RESTORE, "{backupRef: {name: now}}", "{}", "backupRef"),
        (RESTORE, "{from:", "{strategy: Replace, from:", "CreateNew"),
        (RESTORE, "{from:", "{strategy: Swap, from:", "need validUntil"),
        (RESTORE, "{from:", "{approvedPlan: yes-please, from:", "approvedPlan"),
        (PITR, "{scheduleRef: {name: nightly}}", "{}", "exactly one of from.scheduleRef"),
        (PITR, "{scheduleRef:", "{series: a/b/c, scheduleRef:", "belongs to from.repositoryRef"),
        (PITR, "{scheduleRef: {name: nightly}}", "{repositoryRef: {name: main}}", "CLUSTER/"),
        (PITR, "{time: '2026-11-20T14:37:00.250+01:00'}", "{}", "exactly one of recoveryTarget"),
        (PITR, "{time:", "{latest: {}, time:", "exactly one of recoveryTarget"),
        (PITR, "14:37:00.250+01:00'", "14:37:00'", "date-time"),
        (PITR, "time: '2026-11-20T14:37:00.250+01:00'", "xid: '48112'", "inclusive: true"),
        (
            PITR,
            "time: '2026-11-20T14:37:00.250+01:00'",
            "latest: {}, inclusive: true",
            "leave it out",
        ),
        (PITR, "{time:", "{timeline: newest, time:", "timeline is Latest, Current or a number"),
        (PITR, "image: postgres:17", "image: 'postgres:17 --help'", "image"),
        (PITR, "{template: {size: 1Gi}}", "{}", "exactly one of to.volumeClaim.name"),
        (PITR, "{template: {size: 1Gi}}", "{name: c, reclaimPolicy: Delete}", "never deleted"),
        (PITR, "size: 1Gi", "size: 0", "more than nothing"),
        (PITR, "size: 1Gi", "size: 1Gi, accessModes: [ReadOnlyMany]", "ReadWriteMany"),
    ];
    for (valid, from, to, expected) in wrong {
        assert!(valid.contains(from), "{from}");
        let broken = valid.replace(from, to);
        let Err(refusal) = scenario.try_apply(&broken) else { panic!("accepted:\n{broken}") };
        assert!(refusal.message.contains(expected), "{expected:?} is not in: {}", refusal.message);
    }
    for valid in [REPOSITORY, SCHEDULE, BACKUP, RESTORE, PITR] {
        scenario.apply(valid);
    }
    for host in ["db.shop.svc", "10.0.0.7", "fd00::7", "::1", "::ffff:10.0.0.7", "fe80::1%eth0"] {
        scenario.apply(&SCHEDULE.replace("host: db,", &format!("host: \"{host}\",")));
    }
}

#[test]
fn one_shot_kinds_and_the_repositorys_place_cannot_be_changed() {
    let scenario = Scenario::begin("immutable");
    for valid in [REPOSITORY, BACKUP, RESTORE, PITR] {
        scenario.apply(valid);
    }
    for (valid, from, to) in [
        (REPOSITORY, "claimName: backups", "claimName: others"),
        (BACKUP, "name: nightly", "name: weekly"),
        (RESTORE, "{name: now}", "{name: then}"),
        (PITR, "size: 1Gi", "size: 2Gi"),
        (PITR, "postgres:17", "postgres:18"),
        (PITR, "  image:", "  validUntil: '2099-01-01T00:00:00Z'\n  image:"),
    ] {
        let refusal = scenario.try_apply(&valid.replace(from, to)).unwrap_err();
        assert!(refusal.message.contains("cannot be changed"), "{}", refusal.message);
    }
}

#[test]
fn every_field_is_explained() {
    let scenario = Scenario::begin("explain");
    for kind in
        ["backuprepositories", "backupschedules", "backups", "restorerequests", "pitrrestores"]
    {
        let explained =
            scenario.kubectl(&["explain", &format!("{kind}.dbbackup.dev.spec"), "--recursive"]);
        assert!(explained.contains("FIELDS"), "{explained}");
    }
    let field = scenario.kubectl(&["explain", "backupschedules.dbbackup.dev.spec.schedule"]);
    assert!(field.contains("five"), "{field}");
}
