//! The last attempts, bounded.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::stream::story::Story;

/// Attempts that are kept, of all accounts together.
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
    story: Story,
}

impl Recent {
    /// Where there is no room, the oldest of the account goes that has the most: a flood hides nobody but itself.
    pub(super) fn add(&mut self, story: Story) {
        self.next += 1;
        self.attempts.push_front(Attempt { n: self.next, story });
        if self.attempts.len() > KEPT {
            let of = self.loudest();
            if let Some(oldest) = self.attempts.iter().rposition(|attempt| Some(&attempt.story.account) == of.as_ref())
            {
                self.attempts.remove(oldest);
            }
        }
    }

    fn loudest(&self) -> Option<String> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for attempt in &self.attempts {
            *counts.entry(&attempt.story.account).or_default() += 1;
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
    use crate::page::tests::story;

    #[test]
    fn a_flood_pushes_out_its_own_attempts_alone() {
        let mut recent = Recent::default();
        recent.add(story("quiet"));
        (0..3 * KEPT).for_each(|_| recent.add(story("loud")));
        recent.add(story("late"));
        let of = |account: &str| recent.all().filter(|attempt| attempt.story.account == account).count();
        assert_eq!((of("quiet"), of("loud"), of("late")), (1, KEPT - 2, 1));
        let numbers: Vec<_> = recent.all().map(|attempt| attempt.n).collect();
        assert!(numbers.is_sorted_by(|a, b| a > b), "the last first: {numbers:?}");
        assert_eq!(numbers[0], 3 * KEPT as u64 + 2);
    }
}
