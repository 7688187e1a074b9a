//! What a repository holds is hostile: a snapshot that is imported is brought within what
//! the schema of a status takes, lest one of them stand in the way of all.

use jiff::Timestamp;

use crate::{BackupReport, DatabaseReport, Failure, FoundSnapshot};

/// Longest id of a snapshot or a run.
const ID_BYTES: usize = 128;
/// Longest series.
const SERIES_BYTES: usize = 512;
/// Longest name of a database, version, or other word.
const WORD_BYTES: usize = 63;
/// Longest sentence.
const SENTENCE_BYTES: usize = 256;

impl FoundSnapshot {
    /// The same, with at most so many databases, and nothing that a status has no room for.
    #[must_use]
    pub fn bounded(mut self, databases: usize) -> Self {
        text(&mut self.id, ID_BYTES);
        text(&mut self.series, SERIES_BYTES);
        text(&mut self.run_id, ID_BYTES);
        time(&mut self.slot_time);
        self.report = self.report.bounded(databases);
        self
    }
}

impl BackupReport {
    fn bounded(mut self, databases: usize) -> Self {
        for id in [&mut self.snapshot_id, &mut self.repository_id].into_iter().flatten() {
            text(id, WORD_BYTES);
        }
        for at in [&mut self.start_time, &mut self.completion_time] {
            time(at);
        }
        self.consistent_time.iter_mut().for_each(time);
        // The number of the attempt is one more.
        self.attempt = self.attempt.min(MAX_INT32 - 1);
        if let Some(method) = &mut self.method {
            text(&mut method.reason, SENTENCE_BYTES);
        }
        if let Some(server) = &mut self.server {
            text(&mut server.version, WORD_BYTES);
            text(&mut server.identity, WORD_BYTES);
            number(&mut server.size_bytes);
        }
        for position in [&mut self.position, &mut self.log_start].into_iter().flatten() {
            text(&mut position.lsn, 32);
            position.timeline = position.timeline.min(MAX_INT32);
        }
        let bytes = &mut self.bytes;
        [&mut bytes.read, &mut bytes.new, &mut bytes.stored].into_iter().for_each(number);
        let count = &mut self.database_count;
        for part in [&mut count.total, &mut count.succeeded, &mut count.failed] {
            *part = (*part).min(MAX_INT32);
        }
        self.databases = Self::listed(self.databases);
        self.databases.truncate(databases);
        self.databases.iter_mut().for_each(database);
        self.verification = None;
        // They were another time's.
        self.hooks.clear();
        self.error.iter_mut().for_each(failure);
        self
    }
}

/// What the schema's integers hold: a status has `int32` and `int64`.
const MAX_INT32: u32 = i32::MAX.unsigned_abs();
const MAX_INT64: u64 = i64::MAX.unsigned_abs();

fn database(database: &mut DatabaseReport) {
    text(&mut database.name, WORD_BYTES);
    database.as_name = None;
    for count in [
        &mut database.bytes,
        &mut database.tables,
        &mut database.rows,
        &mut database.duration_milliseconds,
    ] {
        number(count);
    }
    database.left_out = None;
    database.warnings.clear();
    if let Some(error) = &mut database.error {
        failure(error);
        error.hint.clear();
    }
}

fn failure(failure: &mut Failure) {
    text(&mut failure.message, SENTENCE_BYTES);
    text(&mut failure.hint, SENTENCE_BYTES);
}

/// Cut at a character's border, and without what a terminal takes for more than text.
fn text(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, " ");
        // A control character of two bytes became one of one.
        text.truncate(text.floor_char_boundary(most));
    }
}

fn number(number: &mut u64) {
    *number = (*number).min(MAX_INT64);
}

/// RFC 3339 knows no years before 0, nor does anybody a backup of before 1970. The largest
/// time lies in its last year.
fn time(time: &mut Timestamp) {
    *time = (*time).max(Timestamp::UNIX_EPOCH);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        ByteCounts, DatabaseCount, DatabaseOutcome, HookOutcome, HookReport, HookStage,
        LogPosition, Method, MethodChoice, Outcome, Reason, ServerReport,
    };

    /// Everything in it is as large as its type allows, and most of it too large.
    pub(crate) fn report() -> BackupReport {
        let long = || "\u{1b}[2Jé\n".repeat(1000);
        BackupReport {
            outcome: Outcome::PartiallyFailed,
            snapshot_id: Some(long()),
            repository_id: Some(long()),
            start_time: Timestamp::MIN,
            consistent_time: Some(Timestamp::MAX),
            completion_time: Timestamp::MAX,
            attempt: u32::MAX,
            method: Some(MethodChoice { used: Method::Logical, reason: long() }),
            server: Some(ServerReport { version: long(), identity: long(), size_bytes: u64::MAX }),
            position: Some(LogPosition { lsn: long(), timeline: u32::MAX }),
            log_start: Some(LogPosition { lsn: long(), timeline: u32::MAX }),
            bytes: ByteCounts { read: u64::MAX, new: u64::MAX, stored: u64::MAX },
            database_count: DatabaseCount { total: u32::MAX, succeeded: u32::MAX, failed: 1 },
            databases: vec![DatabaseReport {
                as_name: Some(long()),
                bytes: u64::MAX,
                tables: u64::MAX,
                rows: u64::MAX,
                duration_milliseconds: u64::MAX,
                warnings: vec![long(); 20],
                error: Some(Failure {
                    message: long(),
                    hint: long(),
                    ..Failure::new(Reason::Internal, "")
                }),
                ..DatabaseReport::new(long(), DatabaseOutcome::Failed)
            }],
            verification: None,
            hooks: vec![HookReport::of(long(), HookStage::Before, HookOutcome::Failed); 100],
            error: Some(Failure { message: long(), ..Failure::new(Reason::Internal, "") }),
        }
    }

    fn found() -> FoundSnapshot {
        let long = || "\u{7}".repeat(1000);
        let slot_time = Timestamp::MIN;
        let (id, series, run_id) = (long(), long(), long());
        FoundSnapshot { id, series, run_id, slot_time, pinned: true, report: report() }
    }

    #[test]
    fn all_that_is_too_large_fits_a_status_then() {
        let json = serde_json::to_value(found().bounded(10)).unwrap();
        let mut seen = 0;
        walk(&json, &mut |value| {
            seen += 1;
            if let Some(text) = value.as_str() {
                assert!(text.len() <= SERIES_BYTES && !text.contains(char::is_control), "{text}");
            }
            if value.is_number() {
                assert!(value.as_i64().is_some_and(|number| number >= 0), "{value}");
            }
        });
        assert!(seen > 40, "{seen}");
        for at in ["startTime", "consistentTime", "completionTime"] {
            let text = json["report"][at].as_str().unwrap();
            assert!(("1970".."9999-12-31").contains(&text), "{text}");
        }
        let int32 = |at: &str| json.pointer(at).unwrap().as_u64().unwrap() <= u64::from(MAX_INT32);
        for at in ["/attempt", "/position/timeline", "/logStart/timeline", "/databaseCount/total"] {
            assert!(int32(&format!("/report{at}")), "{at}");
        }
    }

    #[test]
    fn what_is_small_enough_stays_as_it_is() {
        let mut one = found().bounded(1);
        one.report.databases[0].name = "größe".into();
        assert_eq!(one.clone().bounded(1), one);
        assert_eq!(one.bounded(0).report.databases, []);
    }

    fn walk(value: &serde_json::Value, see: &mut impl FnMut(&serde_json::Value)) {
        see(value);
        if let Some(object) = value.as_object() {
            object.values().for_each(|value| walk(value, see));
        }
        if let Some(list) = value.as_array() {
            list.iter().for_each(|value| walk(value, see));
        }
    }
}
