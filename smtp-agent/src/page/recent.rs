//! The last attempts and stopped messages, bounded.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::stream::Line;

/// How many are kept, of all accounts together.
pub(super) const KEPT: usize = 200;

#[derive(Default)]
pub(super) struct Recent {
    attempts: VecDeque<Attempt>,
    next: u64,
}

#[derive(Serialize)]
pub(super) struct Attempt {
    /// Its number, by which a page knows it again.
    n: u64,
    #[serde(flatten)]
    line: Line,
}

impl Recent {
    /// Where there is no room, the oldest of the account goes that has the most: a flood hides nobody but itself.
    pub(super) fn add(&mut self, line: Line) {
        self.next += 1;
        // Connections and sessions are read apart: a message can be told of before its connection.
        let at = self.attempts.iter().position(|attempt| attempt.line.time() <= line.time());
        self.attempts.insert(at.unwrap_or(self.attempts.len()), Attempt { n: self.next, line });
        if self.attempts.len() > KEPT {
            let of = self.loudest();
            if let Some(oldest) =
                self.attempts.iter().rposition(|attempt| Some(attempt.line.account()) == of.as_deref())
            {
                self.attempts.remove(oldest);
            }
        }
    }

    fn loudest(&self) -> Option<String> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for attempt in &self.attempts {
            *counts.entry(attempt.line.account()).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(account, count)| (*count, *account)).map(|(account, _)| account.to_owned())
    }

    /// The last first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::attempt;

    #[test]
    fn a_flood_pushes_out_its_own_attempts_alone() {
        let mut recent = Recent::default();
        recent.add(attempt("quiet"));
        (0..3 * KEPT).for_each(|_| recent.add(attempt("loud")));
        recent.add(attempt("late"));
        let of = |account: &str| recent.all().filter(|told| told.line.account() == account).count();
        assert_eq!((of("quiet"), of("loud"), of("late")), (1, KEPT - 2, 1));
        let numbers: Vec<_> = recent.all().map(|told| told.n).collect();
        assert!(numbers.is_sorted_by(|a, b| a > b), "the last first: {numbers:?}");
        assert_eq!(numbers[0], 3 * KEPT as u64 + 2);
    }

    #[test]
    fn what_is_told_late_stands_where_its_time_is() {
        let mut recent = Recent::default();
        for time in ["12:00:01.000", "12:00:03.000", "12:00:02.000", "12:00:00.000", "12:00:02.000"] {
            let Line::Connect(mut story) = attempt("shop") else { panic!("a connection") };
            story.time = format!("2026-11-19T{time}Z");
            recent.add(Line::Connect(story));
        }
        assert_eq!(recent.all().map(|told| told.n).collect::<Vec<_>>(), [2, 5, 3, 1, 4]);
    }
}
