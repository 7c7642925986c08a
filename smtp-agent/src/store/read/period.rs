//! Stretches of time, cut so that few rows tell of them: days in the middle, hours and minutes at the edges.

use rusqlite::ToSql;

use super::places;
use crate::store::{prune::From, record::Millis, schema::Level};

/// From a time on, up to another. Times are those of the wall clock in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub from: Millis,
    pub to: Millis,
    /// The longest stretch that may be told of in one.
    pub finest: Level,
}

impl Period {
    pub const fn new(from: Millis, to: Millis) -> Self {
        Self { from, to, finest: Level::Day }
    }

    pub const fn is_empty(&self) -> bool {
        self.to <= self.from
    }
}

/// Stretches of one length, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) level: Level,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Part {
    /// For the places of a statement: level, from, to, and what else is asked for.
    pub(super) fn arguments(&self, dimension: Option<i64>, of: Option<i64>) -> Vec<Box<dyn ToSql>> {
        places([self.level as i64, self.from, self.to].into_iter().chain(dimension).chain(of))
    }
}

/// The shortest stretch of which sums are still kept at a time.
fn kept(time: Millis, from: &From) -> Level {
    let kept = |level: &Level| level.bucket(time) >= level.bucket(from.of(*level));
    Level::ALL.into_iter().find(kept).unwrap_or(Level::Day)
}

/// The beginning of the first stretch that is kept at all.
pub(super) fn beginning(from: &From, now: Millis) -> Millis {
    let oldest = from.days.min(now);
    let level = kept(oldest, from);
    level.bucket(oldest) * level.millis()
}

/// From the beginning of the stretch that holds its beginning, to the end of the one that holds its end; nothing of a period
/// that ends before anything is kept. What lies in the future is empty, so a period up to now may as well go to the end of
/// the day, which takes fewer rows.
pub(super) fn widened(wanted: Period, from: &From, now: Millis) -> Period {
    if wanted.to.min(now) <= beginning(from, now) {
        return Period { to: wanted.from, ..wanted };
    }
    let begin = wanted.from.max(from.days.min(now));
    let level = kept(begin, from);
    let first = level.bucket(begin) * level.millis();
    // The last millisecond: an end is itself the beginning of what follows.
    let end = wanted.to.min(now).max(begin + 1) - 1;
    let level = if wanted.to >= now { Level::Day } else { kept(end, from) };
    let last = (level.bucket(end) + 1) * level.millis();
    let period = Period { from: first, to: last, finest: wanted.finest };
    // A day of which only the sum is kept may reach beyond the hour at which the period would end.
    let end = parts(period, from).last().map_or(last, |part| part.to * part.level.millis());
    Period { to: end, ..period }
}

/// The fewest stretches that make up a period which [`widened`] made.
pub(super) fn parts(period: Period, from: &From) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut at = period.from;
    while at < period.to {
        let fits = |level: &Level| {
            let whole = at % level.millis() == 0 && at + level.millis() <= period.to;
            whole && *level <= period.finest && level.bucket(at) >= level.bucket(from.of(*level))
        };
        // Where the stretch that was asked for is not kept any more, a longer one tells of it.
        let level = Level::ALL.into_iter().rev().find(fits).unwrap_or_else(|| kept(at, from));
        let bucket = level.bucket(at);
        match parts.last_mut() {
            Some(last) if last.level == level && last.to == bucket => last.to = bucket + 1,
            _ => parts.push(Part { level, from: bucket, to: bucket + 1 }),
        }
        at = (bucket + 1) * level.millis();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Millis = Level::Minute.millis();
    const HOUR: Millis = Level::Hour.millis();
    const DAY: Millis = Level::Day.millis();
    const ALL: From = From { minutes: 0, hours: 0, days: 0 };

    fn shown(parts: &[Part]) -> Vec<(Level, i64, i64)> {
        parts.iter().map(|part| (part.level, part.from, part.to)).collect()
    }

    #[test]
    fn a_long_period_is_days_with_hours_and_minutes_at_its_edges() {
        let period = Period::new(DAY - HOUR - MINUTE, 3 * DAY + 2 * HOUR + 3 * MINUTE);
        let wanted = [
            (Level::Minute, 23 * 60 - 1, 23 * 60),
            (Level::Hour, 23, 24),
            (Level::Day, 1, 3),
            (Level::Hour, 72, 74),
            (Level::Minute, 74 * 60, 74 * 60 + 3),
        ];
        assert_eq!(shown(&parts(period, &ALL)), wanted);
    }

    #[test]
    fn where_minutes_are_gone_a_period_is_widened_to_hours() {
        let from = From { minutes: 10 * DAY, hours: 5 * DAY, days: 0 };
        let widen = |begin, end| {
            let Period { from, to, .. } = widened(Period::new(begin, end), &from, 11 * DAY);
            (from, to)
        };
        let odd = 17 * MINUTE + 5;
        assert_eq!(
            widen(10 * DAY + odd, 10 * DAY + HOUR + odd),
            (10 * DAY + 17 * MINUTE, 10 * DAY + HOUR + 18 * MINUTE)
        );
        assert_eq!(widen(6 * DAY + odd, 7 * DAY + odd), (6 * DAY, 7 * DAY + HOUR));
        assert_eq!(widen(DAY + odd, 2 * DAY), (DAY, 2 * DAY));
        assert_eq!(widen(6 * DAY + odd, 12 * DAY), (6 * DAY, 11 * DAY), "up to now");
    }

    #[test]
    fn a_period_before_all_that_is_kept_is_empty() {
        let from = From { minutes: 10 * DAY, hours: 5 * DAY + HOUR, days: 5 * DAY + HOUR };
        let widen = |begin, end| widened(Period::new(begin, end), &from, 11 * DAY);
        assert!(widen(0, 5 * DAY).is_empty());
        assert_eq!(parts(widen(0, 5 * DAY), &from), []);
        assert_eq!(beginning(&from, 11 * DAY), 5 * DAY + HOUR);
        assert!(widen(0, 5 * DAY + HOUR).is_empty());
        let Period { from: begin, to, .. } = widen(0, 5 * DAY + HOUR + 1);
        assert_eq!((begin, to), (5 * DAY + HOUR, 5 * DAY + 2 * HOUR));
        // Hours that are gone leave the sum of their day.
        let from = From { hours: 8 * DAY, ..from };
        assert_eq!(beginning(&from, 11 * DAY), 5 * DAY);
        let of = widened(Period::new(0, 5 * DAY + MINUTE), &from, 11 * DAY);
        assert_eq!((of.from, of.to), (5 * DAY, 6 * DAY));
    }

    proptest! {
        #[test]
        fn parts_cover_a_period_once_and_hold_only_what_is_kept(
            minutes in 0..40 * DAY, older in 0..10 * DAY, oldest in 0..10 * DAY,
            begin in 0..40 * DAY, length in 0..40 * DAY, finest in 0..3usize,
        ) {
            let from = From { minutes, hours: (minutes - older).max(0), days: (minutes - older - oldest).max(0) };
            let now = 41 * DAY;
            let wanted = Period { finest: Level::ALL[finest], ..Period::new(begin, begin + length) };
            let period = widened(wanted, &from, now);
            prop_assert_eq!(period.is_empty(), wanted.to <= beginning(&from, now));
            if period.is_empty() {
                prop_assert_eq!(parts(period, &from), []);
                return Ok(());
            }
            prop_assert!(period.from <= begin.max(from.days));
            prop_assert!(period.to >= wanted.to.min(now));
            let mut at = period.from;
            for part in parts(period, &from) {
                prop_assert_eq!(part.from * part.level.millis(), at);
                prop_assert!(part.from >= part.level.bucket(from.of(part.level)));
                at = part.to * part.level.millis();
            }
            prop_assert_eq!(at, period.to);
        }
    }
}
