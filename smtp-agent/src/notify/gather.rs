//! What is news, what waits to be told with others, and what would be too much. Pure: the time is an argument.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{
    Message, Notice, Seconds,
    outlet::{Outlet, Queue, Taken},
};
use crate::config::Notify;

/// Things that were told and are remembered. When there are more, those that were told first are forgotten.
const MOST_SAID: usize = 10_000;

/// When something was told, and how often it was withheld since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    at: Seconds,
    again: u64,
}

/// The share of each budget of the host that was told, by unit and window.
pub type Shares = BTreeMap<String, u64>;

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    said: HashMap<String, Said>,
    outlets: BTreeMap<String, Outlet>,
    #[serde(default)]
    pub(super) shares: Shares,
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    /// It will be told.
    Taken,
    /// The same was told not long ago.
    Repeated,
    /// No sink that wants it has room for it. It counts as not told.
    LeftOut,
}

pub(super) struct Gather {
    repeat: Seconds,
    group_wait: Seconds,
    max_per_hour: usize,
    /// Of each sink what waits for it.
    queues: Vec<Queue>,
    memory: Memory,
}

/// A message for a sink, and when it may go out.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) sink: String,
    pub(super) message: Message,
    pub(super) next: Seconds,
}

/// What waits for a sink so far; nothing, where it did and does no more.
#[derive(Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) sink: String,
    pub(super) message: Option<(Message, Seconds)>,
}

impl Gather {
    pub(super) fn new(config: &Notify, memory: Memory) -> Self {
        let mut gather = Self { repeat: 0, group_wait: 0, max_per_hour: 0, queues: Vec::new(), memory };
        gather.change(config);
        gather
    }

    /// Goes on with another configuration. What is remembered of sinks that are gone is forgotten.
    pub(super) fn change(&mut self, config: &Notify) {
        self.repeat = config.repeat.as_secs();
        self.group_wait = config.group_wait.as_secs();
        self.max_per_hour = config.max_per_hour as usize;
        let mut old = std::mem::take(&mut self.queues);
        for sink in &config.sinks {
            let known = old.iter().position(|queue| queue.sink == sink.name).map(|at| old.swap_remove(at));
            let mut queue = known.unwrap_or_else(|| Queue::new(sink.name.clone(), sink.on));
            queue.change(sink.on);
            self.queues.push(queue);
        }
        let outlets = &mut self.memory.outlets;
        outlets.retain(|name, _| self.queues.iter().any(|queue| queue.sink == *name));
        for queue in &self.queues {
            outlets.entry(queue.sink.clone()).or_default();
        }
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn set_shares(&mut self, shares: Shares) {
        self.memory.shares = shares;
    }

    /// Whether anything waits for a sink.
    pub(super) fn waits_for(&self, sink: &str) -> bool {
        self.queues.iter().any(|queue| queue.sink == sink && !queue.is_empty())
    }

    pub(super) fn offer(&mut self, mut notice: Notice, now: Seconds) -> Offered {
        let key = notice.key();
        let Memory { said, outlets, .. } = &mut self.memory;
        if let Some(said) = said.get_mut(&key) {
            // A clock that was set back must not silence anything for longer than usual.
            said.at = said.at.min(now);
            if now - said.at < self.repeat {
                said.again += 1;
                for queue in self.queues.iter().filter(|queue| notice.is_for(queue.on)) {
                    outlets.entry(queue.sink.clone()).or_default().repeat();
                }
                return Offered::Repeated;
            }
            notice.again = said.again;
        }
        let (mut is_told, mut displaced) = (false, Vec::new());
        for queue in self.queues.iter_mut().filter(|queue| notice.is_for(queue.on)) {
            let outlet = outlets.entry(queue.sink.clone()).or_default();
            let taken = queue.take(&key, &notice, now);
            is_told |= taken != Taken::No;
            match taken {
                Taken::Waits => {}
                Taken::Again => outlet.repeat(),
                Taken::No => outlet.leave_out(now, self.max_per_hour),
                Taken::InPlaceOf(other) => {
                    outlet.leave_out(now, self.max_per_hour);
                    displaced.push(other);
                }
            }
        }
        // What nobody is told was not told, and must not be silent for as long as if it had been.
        for other in displaced {
            if !self.queues.iter().any(|queue| queue.holds(&other)) {
                self.memory.said.remove(&other);
            }
        }
        if !is_told {
            return Offered::LeftOut;
        }
        self.forget(now);
        self.memory.said.insert(key, Said { at: now, again: 0 });
        Offered::Taken
    }

    /// Makes room for one more.
    fn forget(&mut self, now: Seconds) {
        let said = &mut self.memory.said;
        if said.len() < MOST_SAID {
            return;
        }
        said.retain(|_, said| now.saturating_sub(said.at) < self.repeat);
        if said.len() >= MOST_SAID {
            let mut times: Vec<_> = said.values().map(|said| said.at).collect();
            times.sort_unstable();
            let median = times[times.len() / 2];
            said.retain(|_, said| said.at > median);
        }
    }

    /// When something is to be told, if anything waits.
    pub(super) fn due_at(&self, now: Seconds) -> Option<Seconds> {
        let at = |queue: &Queue| {
            let outlet = self.memory.outlets.get(&queue.sink);
            queue.due_at(outlet, now, self.group_wait, self.max_per_hour).map(|due| due.at)
        };
        self.queues.iter().filter_map(at).min()
    }

    /// What is to be told now: all that waits for a sink, once the first of it has waited long enough and there is room in
    /// the hour. If `force`, all that waits at all: what there is no room for may go out when there is.
    pub(super) fn due(&mut self, now: Seconds, force: bool, host: &str, mut id: impl FnMut() -> String) -> Vec<Told> {
        let mut told = Vec::new();
        for queue in &mut self.queues {
            let outlet = self.memory.outlets.entry(queue.sink.clone()).or_default();
            outlet.forget(now);
            queue.heed(now);
            let Some(due) = queue.due_at(Some(outlet), now, self.group_wait, self.max_per_hour) else { continue };
            if due.at <= now || force {
                let message = queue.close(outlet, host, now, due.room, &mut id);
                told.push(Told { sink: queue.sink.clone(), message, next: due.room });
            }
        }
        told
    }

    /// What waits, of each sink for which that has changed since this was asked.
    pub(super) fn drafts(&mut self, now: Seconds, host: &str, mut id: impl FnMut() -> String) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for queue in &mut self.queues {
            let Some(outlet) = self.memory.outlets.get(&queue.sink) else { continue };
            let Some(message) = queue.draft(outlet, host, now, &mut id) else { continue };
            let at = queue.due_at(Some(outlet), now, self.group_wait, self.max_per_hour).map_or(now, |due| due.at);
            drafts.push(Draft { sink: queue.sink.clone(), message: message.map(|message| (message, at)) });
        }
        drafts
    }

    /// How many notices each sink was not told of since this was asked.
    pub(super) fn uncounted(&mut self) -> impl Iterator<Item = (&str, u64)> {
        let counted = self.memory.outlets.iter_mut().map(|(name, outlet)| (name.as_str(), outlet.take_uncounted()));
        counted.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests;
