//! What is news, what waits to be told with others, and what would be too much. Pure: the time is an argument.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Kind, Kinds, Message, Notice, Seconds};
use crate::config::Notify;

const HOUR: Seconds = 3600;

/// Notices in one message. What is more is counted.
pub(super) const MOST_TOGETHER: usize = 100;
/// Things that were told and are remembered. When there are more, those that were told first are forgotten.
const MOST_SAID: usize = 10_000;

/// When something was told, and how often it was withheld since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    at: Seconds,
    again: u64,
}

/// What is remembered of one sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Outlet {
    /// When messages went out, of the last hour.
    sent: VecDeque<Seconds>,
    /// What was not told since the last message.
    repeated: u64,
    over_rate: u64,
}

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    said: HashMap<String, Said>,
    outlets: BTreeMap<String, Outlet>,
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    /// It will be told.
    Taken,
    /// The same was told not long ago.
    Repeated,
}

pub(super) struct Gather {
    repeat: Seconds,
    group_wait: Seconds,
    max_per_hour: usize,
    /// Names of the sinks, and what they want.
    sinks: Vec<(String, Kinds)>,
    memory: Memory,
    /// Since when the notices wait that will be told together.
    since: Seconds,
    waiting: Vec<Notice>,
    /// Of those that found no room among them.
    left_out: BTreeMap<Kind, u64>,
}

/// A message for a sink, or how many notices it is not told for being too many.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Message { sink: String, message: Message },
    OverRate { sink: String, notices: u64 },
}

impl Gather {
    pub(super) fn new(config: &Notify, memory: Memory) -> Self {
        let mut gather = Self {
            repeat: 0,
            group_wait: 0,
            max_per_hour: 0,
            sinks: Vec::new(),
            memory,
            since: 0,
            waiting: Vec::new(),
            left_out: BTreeMap::new(),
        };
        gather.change(config);
        gather
    }

    /// Goes on with another configuration. What is remembered of sinks that are gone is forgotten.
    pub(super) fn change(&mut self, config: &Notify) {
        self.repeat = config.repeat.as_secs();
        self.group_wait = config.group_wait.as_secs();
        self.max_per_hour = config.max_per_hour as usize;
        self.sinks = config.sinks.iter().map(|sink| (sink.name.clone(), sink.on)).collect();
        let outlets = &mut self.memory.outlets;
        outlets.retain(|name, _| self.sinks.iter().any(|(sink, _)| sink == name));
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The sinks that want a kind.
    pub(super) fn wanting(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.sinks.iter().filter(move |(_, on)| on.has(kind)).map(|(name, _)| name.as_str())
    }

    pub(super) fn offer(&mut self, mut notice: Notice, now: Seconds) -> Offered {
        let key = notice.key();
        let repeat = self.repeat;
        if let Some(said) = self.memory.said.get_mut(&key) {
            // A clock that was set back must not silence anything for longer than usual.
            said.at = said.at.min(now);
            if now - said.at < repeat {
                said.again += 1;
                for (name, _) in self.sinks.iter().filter(|(_, on)| on.has(notice.kind)) {
                    self.memory.outlets.entry(name.clone()).or_default().repeated += 1;
                }
                return Offered::Repeated;
            }
            notice.again = said.again;
        }
        self.forget(now);
        self.memory.said.insert(key, Said { at: now, again: 0 });
        if self.waiting.is_empty() {
            self.since = now;
        }
        if self.waiting.len() < MOST_TOGETHER {
            self.waiting.push(notice);
        } else {
            *self.left_out.entry(notice.kind).or_default() += 1;
        }
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
    pub(super) fn due_at(&self) -> Option<Seconds> {
        (!self.waiting.is_empty()).then_some(self.since + self.group_wait)
    }

    /// What is to be told now: all that waits, once the first of it has waited long enough, or at once if `force`.
    pub(super) fn due(&mut self, now: Seconds, force: bool, host: &str, mut id: impl FnMut() -> String) -> Vec<Told> {
        // As above: a clock that was set back.
        self.since = self.since.min(now);
        if self.due_at().is_none_or(|at| at > now && !force) {
            return Vec::new();
        }
        let notices = std::mem::take(&mut self.waiting);
        let left_out = std::mem::take(&mut self.left_out);
        let mut told = Vec::new();
        for (sink, on) in &self.sinks {
            let own: Vec<_> = notices.iter().filter(|notice| on.has(notice.kind)).cloned().collect();
            let left_out: u64 = left_out.iter().filter(|(kind, _)| on.has(**kind)).map(|(_, count)| count).sum();
            if own.is_empty() {
                continue;
            }
            let outlet = self.memory.outlets.entry(sink.clone()).or_default();
            outlet.sent.retain(|at| *at <= now && now - *at < HOUR);
            if outlet.sent.len() >= self.max_per_hour {
                let notices = own.len() as u64 + left_out;
                outlet.over_rate += notices;
                told.push(Told::OverRate { sink: sink.clone(), notices });
                continue;
            }
            outlet.sent.push_back(now);
            let message = Message {
                id: id(),
                host: host.to_owned(),
                time: now,
                notices: own,
                repeated: std::mem::take(&mut outlet.repeated),
                over_rate: std::mem::take(&mut outlet.over_rate),
                left_out,
            };
            told.push(Told::Message { sink: sink.clone(), message });
        }
        told
    }
}

#[cfg(test)]
mod tests;
