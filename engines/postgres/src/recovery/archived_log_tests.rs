use dbbackup_contract::{LogPosition, Reason};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{ArchivedLog, LogPartHead};

/// Bytes of a range, and of a file of the log here.
const RANGE: u64 = 16 << 20;

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn lsn(at: u64) -> String {
    format!("{:X}/{:X}", at >> 32, at & 0xFFFF_FFFF)
}

/// Part of `timeline` from one range to another.
fn wal(timeline: u32, start: u64, end: u64) -> Value {
    json!({"kind": "Wal", "timeline": timeline, "start": lsn(start), "end": lsn(end), "segmentBytes": RANGE})
}

fn full(timeline: u32, range: u64) -> Value {
    wal(timeline, range * RANGE, (range + 1) * RANGE)
}

fn with(mut part: Value, name: &str, value: impl Into<Value>) -> Value {
    part[name] = value.into();
    part
}

fn gap(timeline: u32, start: u64, end: u64) -> Value {
    json!({"kind": "Gap", "timeline": timeline, "start": lsn(start), "end": lsn(end)})
}

fn history(timeline: u32, before: u32, at: u64) -> Value {
    json!({"kind": "History", "timeline": timeline, "before": before, "at": lsn(at)})
}

fn quiet(timeline: u32, at: u64, seconds: i64) -> Value {
    json!({"kind": "Quiet", "timeline": timeline, "at": lsn(at), "clock": time(seconds).to_string()})
}

/// A log; each part is written a second after the one before it.
fn log(parts: Vec<Value>) -> ArchivedLog {
    let head = |(number, about): (u32, Value)| LogPartHead {
        number,
        time: time(1000 + i64::from(number)),
        about,
    };
    ArchivedLog::read((0..).zip(parts).map(head).collect()).unwrap()
}

/// Bases by timeline and position.
fn bases(bases: &[(u32, u64)]) -> Vec<LogPosition> {
    let base = |(timeline, at): &(u32, u64)| LogPosition { lsn: lsn(*at), timeline: *timeline };
    bases.iter().map(base).collect()
}

#[test]
fn what_lies_before_the_oldest_base_may_go_and_no_more() {
    let log = log((1..10).map(|range| full(1, range)).collect());
    let unneeded = |positions: &[(u32, u64)]| log.unneeded(&bases(positions));
    assert_eq!(unneeded(&[]), [0; 0]);
    assert_eq!(unneeded(&[(1, RANGE + 5)]), [0; 0]);
    assert_eq!(unneeded(&[(1, 2 * RANGE)]), [0]);
    assert_eq!(unneeded(&[(1, 7 * RANGE), (1, 3 * RANGE + 77), (1, 6 * RANGE)]), [0, 1]);
    // What an archiver reads back to go on stays, wherever the bases are.
    assert_eq!(unneeded(&[(1, 500 * RANGE)]), [0, 1, 2, 3, 4, 5, 6]);
    let odd = LogPosition { lsn: "no position".to_owned(), timeline: 1 };
    assert_eq!(log.unneeded(&[odd, bases(&[(1, 7 * RANGE)]).remove(0)]), [0; 0]);
}

#[test]
fn the_file_that_a_base_begins_in_stays_from_its_beginning_on() {
    let parts = vec![
        full(1, 1),
        wal(1, 2 * RANGE, 2 * RANGE + 100),
        wal(1, 2 * RANGE + 100, 3 * RANGE),
        full(1, 3),
        full(1, 4),
        full(1, 5),
    ];
    assert_eq!(log(parts).unneeded(&bases(&[(1, 2 * RANGE + 500)])), [0]);
}

#[test]
fn a_timeline_that_a_base_may_be_brought_forward_along_stays_with_its_history() {
    let mut parts: Vec<_> = (1..5).map(|range| full(1, range)).collect();
    parts.push(history(2, 1, 4 * RANGE + 100));
    parts.push(wal(2, 4 * RANGE + 100, 5 * RANGE));
    parts.extend((5..10).map(|range| full(2, range)));
    let log = log(parts);
    let unneeded = |positions: &[(u32, u64)]| log.unneeded(&bases(positions));
    // Of the old timeline: its log up to where it was left, the history, and all of the new one.
    assert_eq!(unneeded(&[(1, 3 * RANGE), (2, 9 * RANGE)]), [0, 1]);
    // The last of the old one's, and the history with it, go with the last base of that timeline.
    assert_eq!(unneeded(&[(2, 5 * RANGE)]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(unneeded(&[(2, 8 * RANGE)]), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    // An old primary that went on cannot follow; yet its number must not be given again.
    assert_eq!(unneeded(&[(1, 7 * RANGE), (2, 9 * RANGE)]), [0, 1, 2, 3]);
}

#[test]
fn the_log_of_another_branch_is_not_kept_for_who_cannot_follow_it() {
    let parts = vec![
        full(1, 1),
        full(1, 2),
        history(2, 1, RANGE + 50),
        wal(2, RANGE + 50, 2 * RANGE),
        full(2, 2),
        history(3, 2, 3 * RANGE),
        full(3, 3),
        full(3, 4),
        full(3, 5),
        full(3, 6),
    ];
    let log = log(parts);
    // On the third, whatever the others have behind it.
    assert_eq!(log.unneeded(&bases(&[(3, 4 * RANGE)])), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(log.unneeded(&bases(&[(2, 2 * RANGE + 9), (3, 4 * RANGE)])), [0, 1, 2, 3]);
}

#[test]
fn a_gap_and_an_idle_hour_go_with_what_lies_around_them() {
    let parts = vec![
        full(1, 1),
        quiet(1, 2 * RANGE, 50),
        gap(1, 2 * RANGE, 4 * RANGE),
        full(1, 4),
        quiet(1, 5 * RANGE, 60),
        full(1, 5),
        full(1, 6),
        full(1, 7),
    ];
    let log = log(parts);
    assert_eq!(log.unneeded(&bases(&[(1, 2 * RANGE)])), [0, 1]);
    assert_eq!(log.unneeded(&bases(&[(1, 4 * RANGE)])), [0, 1, 2]);
    assert_eq!(log.unneeded(&bases(&[(1, 5 * RANGE)])), [0, 1, 2, 3, 4]);
}

#[test]
fn gaps_are_told_with_what_is_known_of_the_time_before_them() {
    let ended = |part, seconds| with(part, "highestTime", time(seconds).to_string());
    let parts = vec![
        full(1, 1),
        gap(1, 2 * RANGE, 3 * RANGE),
        ended(full(1, 3), 40),
        with(full(1, 4), "clock", time(55).to_string()),
        gap(1, 5 * RANGE, 7 * RANGE),
        full(1, 7),
        quiet(1, 8 * RANGE, 90),
    ];
    let told = log(parts.clone());
    let gaps = told.gaps();
    let bounds: Vec<_> = gaps.iter().map(|gap| (gap.start.as_str(), gap.end.as_str())).collect();
    assert_eq!(bounds, [("0/2000000", "0/3000000"), ("0/5000000", "0/7000000")]);
    let times: Vec<_> = gaps.iter().map(|gap| (gap.after, gap.time)).collect();
    assert_eq!(times, [(None, time(1001)), (Some(time(55)), time(1004))]);
    assert_eq!(told.unbroken_since(), Some(time(1005)));
    assert_eq!(told.kept_time(), Some(time(90)));

    let still_lost = log(parts[..5].to_vec());
    assert_eq!(still_lost.unbroken_since(), Some(time(1004)));
    assert_eq!(still_lost.kept_time(), Some(time(55)));
    let whole = log(parts[2..3].to_vec());
    assert_eq!(whole.unbroken_since(), Some(time(1000)));
    let before_the_end = time(40) - SignedDuration::from_micros(1);
    assert_eq!(whole.kept_time(), Some(before_the_end));
    let empty = log(Vec::new());
    assert_eq!((empty.unbroken_since(), empty.kept_time()), (None, None));
}

#[test]
fn of_a_timeline_that_was_left_within_a_part_the_part_says_nothing() {
    let clocked = |part, seconds| with(part, "clock", time(seconds).to_string());
    let parts =
        vec![clocked(full(1, 1), 10), clocked(full(1, 2), 20), history(2, 1, 2 * RANGE + 100)];
    let left = log(parts.clone());
    assert_eq!(left.kept_time(), Some(time(10)));
    let mut parts = parts;
    parts.push(clocked(wal(2, 2 * RANGE + 100, 3 * RANGE), 30));
    assert_eq!(log(parts).kept_time(), Some(time(30)));
}

#[test]
fn what_cannot_be_is_damage() {
    for about in [
        json!({}),
        json!({"kind": "Other"}),
        wal(1, 5, 5),
        wal(1, 9, 5),
        wal(1, 0, 2 * RANGE),
        with(wal(1, 0, 5), "segmentBytes", 0),
        with(wal(1, 0, 5), "start", "nowhere"),
        history(2, 2, 5),
        gap(1, 9, 5),
    ] {
        let head = LogPartHead { number: 7, time: time(1), about: about.clone() };
        let failure = ArchivedLog::read(vec![head]).map(drop).unwrap_err();
        assert_eq!(failure.reason, Reason::RepositoryDamaged, "{about}");
        assert!(failure.message.starts_with("part 7 of the log: "), "{failure}");
    }
}
