//! What waits for one sink, and how much it has been told. Pure: the time is an argument.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Kinds, Message, Notice, Seconds, notice::Severity};

const HOUR: Seconds = 3600;

/// Notices in one message. Of more the gravest are told, and the others are counted.
pub(super) const MOST_TOGETHER: usize = 100;

/// What is remembered of one sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Outlet {
    /// When messages went out, of the last hour; later ones are on the disk until then.
    sent: VecDeque<Seconds>,
    /// What was not told since the last message.
    repeated: u64,
    over_rate: u64,
    left_out: u64,
    /// Of these, what is in no metric yet.
    #[serde(skip)]
    uncounted: u64,
}

impl Outlet {
    /// Forgets messages of earlier hours, and such as a clock that was set back has put into another time.
    pub(super) fn forget(&mut self, now: Seconds) {
        self.sent.retain(|at| now.saturating_sub(*at) < HOUR && *at <= now + HOUR);
    }

    /// When another message may go out: now, if that is not too many.
    fn room_at(&self, now: Seconds, most: usize) -> Seconds {
        let Some(over) = self.sent.len().checked_sub(most) else { return now };
        let mut sent: Vec<_> = self.sent.iter().copied().collect();
        sent.sort_unstable();
        // No later than it could be if all of them had just gone out.
        sent.get(over).map_or(now, |at| (at + HOUR).clamp(now, now + HOUR))
    }

    pub(super) fn repeat(&mut self) {
        self.repeated += 1;
        self.uncounted += 1;
    }

    /// There was no room for one.
    pub(super) fn leave_out(&mut self, now: Seconds, most: usize) {
        self.forget(now);
        let why = if self.sent.len() >= most { &mut self.over_rate } else { &mut self.left_out };
        *why += 1;
        self.uncounted += 1;
    }

    pub(super) fn take_uncounted(&mut self) -> u64 {
        std::mem::take(&mut self.uncounted)
    }

    #[cfg(test)]
    pub(super) fn withheld(&self) -> u64 {
        self.repeated + self.over_rate + self.left_out
    }
}

/// What became of a notice that was to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    Waits,
    /// It waits in the place of a lesser one, which had this key.
    InPlaceOf(String),
    /// The same waits already, and says that it was seen again.
    Again,
    /// There is no room for it.
    No,
}

/// What waits for one sink.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) sink: String,
    pub(super) on: Kinds,
    /// Since when the first of it waits.
    since: Seconds,
    /// By key.
    waiting: Vec<(String, Notice)>,
    /// The id of the message that it will be.
    id: Option<String>,
    /// It is not on the disk as it is.
    changed: bool,
}

impl Queue {
    pub(super) fn new(sink: String, on: Kinds) -> Self {
        Self { sink, on, since: 0, waiting: Vec::new(), id: None, changed: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn holds(&self, key: &str) -> bool {
        self.waiting.iter().any(|(known, _)| known == key)
    }

    pub(super) fn change(&mut self, on: Kinds) {
        self.on = on;
        let before = self.waiting.len();
        self.waiting.retain(|(_, notice)| on.has(notice.kind));
        self.changed |= self.waiting.len() != before;
    }

    pub(super) fn take(&mut self, key: &str, notice: &Notice, now: Seconds) -> Taken {
        if let Some((_, same)) = self.waiting.iter_mut().find(|(known, _)| known == key) {
            same.again += 1 + notice.again;
            self.changed = true;
            return Taken::Again;
        }
        if self.waiting.is_empty() {
            self.since = now;
        }
        let displaced = match self.waiting.len() {
            0..MOST_TOGETHER => None,
            _ => match self.least(Severity::of(notice.kind)) {
                Some(least) => Some(self.waiting.remove(least).0),
                None => return Taken::No,
            },
        };
        self.waiting.push((key.to_owned(), notice.clone()));
        self.changed = true;
        displaced.map_or(Taken::Waits, Taken::InPlaceOf)
    }

    /// The last of those that are the least grave, if they are less so than another.
    fn least(&self, than: Severity) -> Option<usize> {
        let grave = self.waiting.iter().enumerate().map(|(n, (_, notice))| (Severity::of(notice.kind), n));
        let (least, n) = grave.min_by_key(|(severity, n)| (*severity, std::cmp::Reverse(*n)))?;
        (least < than).then_some(n)
    }

    /// When it is to be told, and when at the earliest: with nobody left to wait for.
    pub(super) fn due_at(
        &self,
        outlet: Option<&Outlet>,
        now: Seconds,
        group_wait: Seconds,
        most: usize,
    ) -> Option<Due> {
        // A clock that was set back must hold nothing up for longer than usual.
        let waited = self.since.min(now) + group_wait;
        let room = outlet.map_or(now, |outlet| outlet.room_at(now, most));
        (!self.is_empty()).then_some(Due { at: waited.max(room), room })
    }

    /// As above, for good.
    pub(super) fn heed(&mut self, now: Seconds) {
        self.since = self.since.min(now);
    }

    /// All that waits as a message, which goes out at `next`.
    pub(super) fn close(
        &mut self,
        outlet: &mut Outlet,
        host: &str,
        now: Seconds,
        next: Seconds,
        id: impl FnOnce() -> String,
    ) -> Message {
        outlet.sent.push_back(next);
        let message = self.message(outlet, host, now, id);
        (outlet.repeated, outlet.over_rate, outlet.left_out) = (0, 0, 0);
        self.waiting.clear();
        (self.id, self.changed) = (None, false);
        message
    }

    /// The message as it is so far, if it has changed since this was asked. `Some(None)`: there is none any more.
    pub(super) fn draft(
        &mut self,
        outlet: &Outlet,
        host: &str,
        now: Seconds,
        id: impl FnOnce() -> String,
    ) -> Option<Option<Message>> {
        std::mem::take(&mut self.changed).then(|| (!self.is_empty()).then(|| self.message(outlet, host, now, id)))
    }

    fn message(&mut self, outlet: &Outlet, host: &str, now: Seconds, id: impl FnOnce() -> String) -> Message {
        Message {
            id: self.id.get_or_insert_with(id).clone(),
            host: host.to_owned(),
            time: now,
            notices: self.waiting.iter().map(|(_, notice)| notice.clone()).collect(),
            repeated: outlet.repeated,
            over_rate: outlet.over_rate,
            left_out: outlet.left_out,
        }
    }
}

/// When something is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Seconds,
    /// When there is room in the hour, which even the end of the agent does not make.
    pub(super) room: Seconds,
}
