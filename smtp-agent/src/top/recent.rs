//! The last attempts of each account.

use std::collections::{HashMap, VecDeque};

use crate::stream::{Line, story::Story};

/// Attempts that are kept of one account, and accounts of which any are.
const PER_ACCOUNT: usize = 200;
const ACCOUNTS: usize = 500;

#[derive(Default)]
pub(super) struct Recent {
    of: HashMap<String, VecDeque<Story>>,
    /// Accounts, the one that was told of last at the end.
    order: VecDeque<String>,
}

impl Recent {
    pub(super) fn add(&mut self, line: Line) {
        let Line::Connect(story) = line else { return };
        let account = story.account.clone();
        self.order.retain(|other| *other != account);
        self.order.push_back(account.clone());
        if self.order.len() > ACCOUNTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
        let stories = self.of.entry(account).or_default();
        stories.push_front(story);
        stories.truncate(PER_ACCOUNT);
    }

    /// The last first.
    pub(super) fn of(&self, account: &str) -> impl ExactSizeIterator<Item = &Story> + use<'_> {
        static NONE: VecDeque<Story> = VecDeque::new();
        self.of.get(account).unwrap_or(&NONE).iter()
    }
}
