//! Hours, days, weeks, months and years of a zone's calendar.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

/// A stretch of a zone's calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// An hour on the clock. One that autumn repeats is two, told apart by the offset.
    Hour {
        /// The day.
        date: Date,
        /// 0 to 23.
        hour: i8,
        /// From UTC.
        offset: Offset,
    },
    /// A day, however many hours it has.
    Day(Date),
    /// A week of ISO 8601, which begins on Monday. Its year is not always that of its days.
    Week {
        /// The week's year.
        year: i16,
        /// 1 to 53.
        week: i8,
    },
    /// A month.
    Month {
        /// The year.
        year: i16,
        /// 1 to 12.
        month: i8,
    },
    /// A year.
    Year(i16),
}

/// Which period of a time a rule asks for.
pub(crate) type PeriodOf = fn(Timestamp, &TimeZone) -> Period;

impl Period {
    pub(crate) fn hour(time: Timestamp, zone: &TimeZone) -> Self {
        let offset = zone.to_offset(time);
        let local = offset.to_datetime(time);
        Self::Hour { date: local.date(), hour: local.hour(), offset }
    }

    pub(crate) fn day(time: Timestamp, zone: &TimeZone) -> Self {
        Self::Day(date(time, zone))
    }

    pub(crate) fn week(time: Timestamp, zone: &TimeZone) -> Self {
        let week = date(time, zone).iso_week_date();
        Self::Week { year: week.year(), week: week.week() }
    }

    pub(crate) fn month(time: Timestamp, zone: &TimeZone) -> Self {
        let date = date(time, zone);
        Self::Month { year: date.year(), month: date.month() }
    }

    pub(crate) fn year(time: Timestamp, zone: &TimeZone) -> Self {
        Self::Year(date(time, zone).year())
    }

    /// Whether this is another period than `newer`, in which a later time lies.
    ///
    /// A clock that is set back over midnight returns to the day before: a minute of the
    /// new day, the old day again, the new day. Only a day before the last one counts
    /// then, or the same day would be counted twice.
    pub(crate) fn is_before(self, newer: Self) -> bool {
        match (self, newer) {
            (Self::Day(this), Self::Day(newer)) => this < newer,
            (Self::Week { year, week }, Self::Week { year: newer_year, week: newer_week }) => {
                (year, week) < (newer_year, newer_week)
            }
            (Self::Month { year, month }, Self::Month { year: newer_year, month: newer_month }) => {
                (year, month) < (newer_year, newer_month)
            }
            (Self::Year(this), Self::Year(newer)) => this < newer,
            // No hour of one offset comes twice.
            _ => self != newer,
        }
    }
}

fn date(time: Timestamp, zone: &TimeZone) -> Date {
    zone.to_datetime(time).date()
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour { date, hour, offset } => write!(f, "hour {date}T{hour:02}{offset}"),
            Self::Day(date) => write!(f, "day {date}"),
            Self::Week { year, week } => write!(f, "week {year:04}-W{week:02}"),
            Self::Month { year, month } => write!(f, "month {year:04}-{month:02}"),
            Self::Year(year) => write!(f, "year {year:04}"),
        }
    }
}
