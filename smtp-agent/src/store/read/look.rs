//! Looking through events for what an account's actors did. Events have no index but time, so of very many only some are
//! looked at: the latest, and those of stretches in which sums say that there is something to find.

use std::{collections::HashMap, ops::Range};

use rusqlite::Result;

use super::{
    Reader,
    culprits::{reason, verdict},
};
use crate::store::{
    counts::{Counts, column},
    record::Millis,
    schema::event_time,
};

/// Events of an actor that are shown.
const SAMPLES: usize = 5;

/// What events tell of one actor.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) counts: Counts,
    pub(super) first: Millis,
    pub(super) last: Millis,
    pub(super) latest: Vec<Event>,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) id: i64,
    pub(super) target: i64,
    pub(super) what: i64,
    pub(super) tgid: u32,
}

/// What was looked at, and what was found of some actors.
#[derive(Default)]
pub(super) struct Look {
    /// Of those that are looked for.
    found: HashMap<i64, Option<Found>>,
    /// Numbers of attempts and of sessions that were looked at, so that none counts twice.
    seen: [Vec<Range<i64>>; 2],
    /// There were more than were to be looked at.
    pub(super) is_cut: bool,
}

/// What of a range none of the others holds.
fn without(range: Range<i64>, seen: &[Range<i64>]) -> Vec<Range<i64>> {
    let mut left = vec![range];
    for seen in seen {
        let cut = left
            .into_iter()
            .flat_map(|part| [part.start..part.end.min(seen.start), part.start.max(seen.end)..part.end]);
        left = cut.filter(|part| !part.is_empty()).collect();
    }
    left
}

impl Look {
    pub(super) fn of(actors: impl Iterator<Item = i64>) -> Self {
        Self { found: actors.map(|id| (id, None)).collect(), ..Self::default() }
    }

    pub(super) fn found(&self, actor: i64) -> Option<&Found> {
        self.found.get(&actor)?.as_ref()
    }

    pub(super) fn take(&mut self, actor: i64) -> Option<Found> {
        let mut found = self.found.get_mut(&actor)?.take()?;
        found.latest.sort_by_key(|event| std::cmp::Reverse(event.id));
        Some(found)
    }

    /// Looks at the latest events with these numbers, as many of each kind as are said, but for those that were looked at.
    pub(super) fn through(&mut self, reader: &Reader, range: Range<i64>, most: i64) -> Result<()> {
        for part in without(range.clone(), &self.seen[0]) {
            let from = self.attempts(reader, &part, most)?;
            self.seen[0].push(from..part.end);
        }
        for part in without(range, &self.seen[1]) {
            let from = self.sessions(reader, &part, most)?;
            self.seen[1].push(from..part.end);
        }
        Ok(())
    }

    /// From which number on all were looked at, when these were the last that there was room for.
    fn reached(&mut self, part: &Range<i64>, last: Option<i64>, left: i64) -> i64 {
        let is_cut = left == 0;
        self.is_cut |= is_cut;
        last.filter(|_| is_cut).unwrap_or(part.start)
    }

    fn attempts(&mut self, reader: &Reader, part: &Range<i64>, most: i64) -> Result<i64> {
        let mut events = reader.db.prepare_cached(
            "SELECT id, actor, target, what, tgid FROM attempt WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
        )?;
        let mut rows = events.query((part.start, part.end, most))?;
        let (mut last, mut left) = (None, most);
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            (last, left) = (Some(id), left - 1);
            let Some(found) = self.found.get_mut(&row.get(1)?) else { continue };
            let event = Event { id, target: row.get(2)?, what: row.get(3)?, tgid: row.get(4)? };
            let time = event_time(id);
            let found = found.get_or_insert_with(|| Found { first: time, last: time, ..Found::default() });
            (found.first, found.last) = (found.first.min(time), found.last.max(time));
            if let Some(verdict) = verdict(event.what) {
                let is_connection = event.what >> 3 & 3 == 0;
                found.counts.0[verdict as usize] += is_connection as i64;
                let over = verdict.is_stop() && reason(event.what).is_some_and(|reason| reason.level().is_some());
                found.counts.0[column::OVER_LIMIT] += over as i64;
            }
            if found.latest.len() < SAMPLES {
                found.latest.push(event);
            }
        }
        Ok(self.reached(part, last, left))
    }

    fn sessions(&mut self, reader: &Reader, part: &Range<i64>, most: i64) -> Result<i64> {
        let mut events = reader.db.prepare_cached(
            "SELECT id, actor, counts FROM session WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
        )?;
        let mut rows = events.query((part.start, part.end, most))?;
        let (mut last, mut left) = (None, most);
        while let Some(row) = rows.next()? {
            (last, left) = (Some(row.get(0)?), left - 1);
            let Some(Some(found)) = self.found.get_mut(&row.get(1)?) else { continue };
            found.counts.add_packed(row.get_ref(2)?.as_blob().unwrap_or_default());
        }
        Ok(self.reached(part, last, left))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_looked_at_is_not_looked_at_again() {
        let without = |range, seen: &[(i64, i64)]| {
            let seen: Vec<_> = seen.iter().map(|(from, to)| *from..*to).collect();
            super::without(range, &seen).into_iter().map(|part| (part.start, part.end)).collect::<Vec<_>>()
        };
        assert_eq!(without(0..10, &[]), [(0, 10)]);
        assert_eq!(without(0..10, &[(3, 5), (8, 20)]), [(0, 3), (5, 8)]);
        assert_eq!(without(0..10, &[(3, 5), (4, 6), (20, 30)]), [(0, 3), (6, 10)]);
        assert_eq!(without(4..6, &[(0, 10)]), []);
    }
}
