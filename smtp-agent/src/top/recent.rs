//! What was told of each account of late: attempts, ends of sessions, messages that could not pass.

use std::collections::{HashMap, VecDeque};

use crate::stream::{Line, story::Story};

/// Lines that are kept of one account, and accounts of which any are.
const PER_ACCOUNT: usize = 200;
const ACCOUNTS: usize = 500;

#[derive(Default)]
pub(super) struct Recent {
    of: HashMap<String, VecDeque<Line>>,
    /// Accounts, the one that was told of last at the end.
    order: VecDeque<String>,
}

impl Recent {
    pub(super) fn add(&mut self, line: Line) {
        let account = line.account().to_owned();
        self.order.retain(|other| *other != account);
        self.order.push_back(account.clone());
        if self.order.len() > ACCOUNTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
        let lines = self.of.entry(account).or_default();
        lines.push_front(line);
        lines.truncate(PER_ACCOUNT);
    }

    /// The last first.
    pub(super) fn of(&self, account: &str) -> impl ExactSizeIterator<Item = &Line> + use<'_> {
        static NONE: VecDeque<Line> = VecDeque::new();
        self.of.get(account).unwrap_or(&NONE).iter()
    }

    /// The attempt that a line about a session goes back to, if it is kept: of the same process, to the same place, and not after it.
    pub(super) fn attempt_of(&self, line: &Line) -> Option<&Story> {
        let session = match line {
            Line::Connect(_) => return None,
            Line::Session(end) => &end.session,
            Line::Stop(stop) => &stop.session,
        };
        self.of(&session.account).find_map(|told| match told {
            Line::Connect(story)
                if (story.tgid, story.destination, story.port) == (session.tgid, session.destination, session.port)
                    && story.time <= session.time =>
            {
                Some(story)
            }
            _ => None,
        })
    }
}
