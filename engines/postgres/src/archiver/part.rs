//! What a part of an archived log says of itself: where it belongs, and what can be recovered to
//! within it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;
use crate::wal::{Fact, Record};

/// Most bytes of a part: a range of the log.
pub(crate) const RANGE_BYTES: u64 = 16 * 1024 * 1024;
/// Most restore points that a part names.
const MAX_RESTORE_POINTS: usize = 100;

/// One part of an archived log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub(crate) enum ArchivedPart {
    /// Bytes of the log.
    Wal(WalPart),
    /// A timeline begins; the text of its history is the part's bytes.
    History {
        timeline: u32,
        /// The one that it goes on from, and where.
        before: u32,
        #[serde(with = "lsn_text")]
        at: Lsn,
    },
    /// Log that is lost: nothing between the two can be replayed.
    Gap {
        timeline: u32,
        #[serde(with = "lsn_text")]
        start: Lsn,
        #[serde(with = "lsn_text")]
        end: Lsn,
    },
    /// The log ended here, and until `clock` nothing was written behind it. Of no bytes.
    Quiet {
        timeline: u32,
        #[serde(with = "lsn_text")]
        at: Lsn,
        clock: Timestamp,
        /// As of [`WalPart`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<u32>,
    },
}

/// Bytes of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WalPart {
    pub(crate) timeline: u32,
    #[serde(with = "lsn_text")]
    pub(crate) start: Lsn,
    #[serde(with = "lsn_text")]
    pub(crate) end: Lsn,
    /// Bytes of a file of it.
    pub(crate) segment_bytes: u64,
    /// The newest time of the server's clock at which its log ended here: until then nothing else
    /// was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clock: Option<Timestamp>,
    /// The number of the first of the parts that it replaces. They may be gone: the part before this
    /// one is the one before them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<u32>,
    #[serde(flatten)]
    pub(crate) facts: PartFacts,
}

/// What the records say that end in a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PartFacts {
    /// The last record: where it begins and ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_record: Option<Span>,
    /// Transactions that ended, well or not.
    pub(crate) transactions: u64,
    /// The first and the last of these in the log. Their times may run backwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_time: Option<Timestamp>,
    /// The highest of the times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) highest_time: Option<Timestamp>,
    /// The lowest and the highest of their numbers: whether to look for one here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lowest_xid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) highest_xid: Option<u32>,
    /// Restore points.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) restore_points: Vec<RestorePoint>,
    /// Whether there are more of these than are named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_more_restore_points: bool,
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    #[serde(with = "lsn_text")]
    pub(crate) start: Lsn,
    #[serde(with = "lsn_text")]
    pub(crate) end: Lsn,
}

/// A point with a name (`pg_create_restore_point`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RestorePoint {
    pub(crate) name: String,
    pub(crate) time: Timestamp,
    pub(crate) record: Span,
}

impl ArchivedPart {
    /// Whether positions and sizes are such as can be.
    pub(crate) fn is_sound(&self) -> bool {
        match self {
            Self::Wal(part) => {
                let has_usual_size = (1 << 20..=1 << 30).contains(&part.segment_bytes);
                let is_in_order = part.start < part.end && part.end.0 - part.start.0 <= RANGE_BYTES;
                is_in_order && has_usual_size && part.segment_bytes.is_power_of_two()
            }
            Self::History { timeline, before, .. } => before < timeline,
            Self::Gap { start, end, .. } => start <= end,
            Self::Quiet { .. } => true,
        }
    }

    /// The number of the part before it, if it is the part `number` and there is one.
    pub(crate) fn number_before(&self, number: u32) -> Option<u32> {
        let replaces = match self {
            Self::Wal(part) => part.replaces,
            Self::Quiet { replaces, .. } => *replaces,
            Self::History { .. } | Self::Gap { .. } => None,
        };
        replaces.unwrap_or(number).min(number).checked_sub(1)
    }
}

impl WalPart {
    /// Up to this time of the server's clock all is there, where nothing is missing before it. It
    /// can be recovered to.
    pub(crate) fn kept_time(&self) -> Option<Timestamp> {
        // What ended at the very time of the last end that is known may be in the next part.
        let ended = self.facts.highest_time;
        let ended = ended.and_then(|time| time.checked_sub(SignedDuration::from_micros(1)).ok());
        self.clock.max(ended)
    }
}

impl PartFacts {
    /// Adds a record with its facts.
    pub(crate) fn add(&mut self, record: &Record, facts: &[Fact]) {
        let span = Span { start: record.start, end: record.end };
        self.last_record = Some(span);
        for fact in facts {
            match fact {
                Fact::End { xid, time, .. } => {
                    self.transactions += 1;
                    self.first_time = self.first_time.or(Some(*time));
                    self.last_time = Some(*time);
                    self.highest_time = self.highest_time.max(Some(*time));
                    self.lowest_xid = Some(self.lowest_xid.map_or(*xid, |low| low.min(*xid)));
                    self.highest_xid = self.highest_xid.max(Some(*xid));
                }
                Fact::RestorePoint { name, time } => {
                    if self.restore_points.len() < MAX_RESTORE_POINTS {
                        let (name, time) = (name.clone(), *time);
                        self.restore_points.push(RestorePoint { name, time, record: span });
                    } else {
                        self.has_more_restore_points = true;
                    }
                }
                _ => {}
            }
        }
    }
}

/// A position as the server writes it.
mod lsn_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::lsn::Lsn;

    pub(super) fn serialize<S: Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(lsn)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
