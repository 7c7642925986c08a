//! Limits and the failure brake: what is written, and what of it says something else than it seems.

use std::time::Duration;

use super::{
    place::{Place, Spot},
    problem::{Problem, Problems},
    reader::{Reader, Section},
    schema::{Brake, DEFAULT_MIN_FAILED, MAX_LIMIT, Quota},
};

/// Replaces what an earlier file set, if this one sets anything.
pub(super) fn set<T>(target: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *target = value;
    }
}

pub(super) fn value<T>(spot: Option<Spot<T>>) -> Option<T> {
    spot.map(|spot| spot.value)
}

/// Everything that one table limits.
pub(super) struct Limits {
    connections: Pair,
    messages: Pair,
    recipients: Pair,
    /// A limit is written, though it may be wrong or misspelled.
    pub(super) written: bool,
}

/// Hour and day of one unit.
struct Pair {
    /// What is limited.
    unit: &'static str,
    keys: [&'static str; 2],
    limits: [Option<Spot<u32>>; 2],
}

impl Default for Limits {
    fn default() -> Self {
        let pair = |unit, keys| Pair { unit, keys, limits: [None, None] };
        Self {
            connections: pair("connection", ["per_hour", "per_day"]),
            messages: pair("message", ["messages_per_hour", "messages_per_day"]),
            recipients: pair("recipient", ["recipients_per_hour", "recipients_per_day"]),
            written: false,
        }
    }
}

impl Limits {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, section: &Section<'_>) {
        self.written |= section.has_unknown;
        for pair in [&mut self.connections, &mut self.messages, &mut self.recipients] {
            for (key, limit) in pair.keys.iter().zip(&mut pair.limits) {
                let entry = section.get(key);
                self.written |= entry.is_some();
                set(limit, reader.limit(entry));
            }
        }
    }

    pub(super) fn connections(&self) -> Quota {
        self.connections.quota()
    }

    pub(super) fn messages(&self) -> Quota {
        self.messages.quota()
    }

    pub(super) fn recipients(&self) -> Quota {
        self.recipients.quota()
    }

    /// Limits that say something else than they seem to. `piped`: executions of sendmail are limited too, which are
    /// messages without recipients to the kernel.
    pub(super) fn check(&self, piped: bool, problems: &mut Problems) {
        for pair in [&self.connections, &self.messages, &self.recipients] {
            pair.check(problems);
        }
        let both = self.messages.each().zip(self.recipients.each()).filter(|_| !piped);
        for ((key, messages), (other, recipients)) in both {
            if let (Some(messages), Some(Spot { value: recipients, .. })) = (messages, recipients)
                && (1..messages.value).contains(recipients)
            {
                let message =
                    format!("`{key}` is never reached: `{other}` is {recipients}, and every message has a recipient");
                problems.push(Problem::warning(message).at(messages.at.clone()));
            }
        }
    }

    /// The limits that hold only where messages are followed.
    pub(super) fn of_messages(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        let all = self.messages.each().chain(self.recipients.each());
        all.filter_map(|(key, limit)| Some((key, &limit.as_ref()?.at)))
    }
}

impl Pair {
    fn each(&self) -> impl Iterator<Item = (&'static str, &Option<Spot<u32>>)> {
        self.keys.into_iter().zip(&self.limits)
    }

    fn quota(&self) -> Quota {
        let [per_hour, per_day] = self.limits.each_ref().map(|limit| limit.as_ref().map(|limit| limit.value));
        Quota { per_hour, per_day }
    }

    fn check(&self, problems: &mut Problems) {
        for (key, limit) in self.each() {
            if let Some(Spot { value: 0, at }) = limit {
                let problem = Problem::warning(format!("`{key} = 0` refuses every {}", self.unit));
                problems.push(problem.at(at.clone()).hint("for no limit leave the key out"));
            }
        }
        if let [Some(hour), Some(day)] = &self.limits
            && (1..hour.value).contains(&day.value)
        {
            let [per_hour, per_day] = self.keys;
            let message = format!("`{per_hour}` is never reached: `{per_day}` is {}", day.value);
            problems.push(Problem::warning(message).at(hour.at.clone()));
        }
    }
}

/// The failure brake of a plan.
#[derive(Default)]
pub(super) struct BrakeDraft {
    max_failed_percent: Option<Spot<u32>>,
    min_failed: Option<Spot<u32>>,
    release_after: Option<Spot<Duration>>,
    /// `max_failed_percent` is written, though it may be wrong or misspelled.
    pub(super) written: bool,
}

impl BrakeDraft {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, section: &Section<'_>) {
        let percent = section.get("max_failed_percent");
        self.written |= percent.is_some() || section.has_unknown;
        set(&mut self.max_failed_percent, reader.number(percent, 1..=100));
        set(&mut self.min_failed, reader.number(section.get("min_failed"), 1..=MAX_LIMIT));
        set(&mut self.release_after, reader.duration(section.get("release_after")));
    }

    /// A brake that does something else than it seems to. `complete` is false where a part of it may not have been read.
    pub(super) fn check(&self, complete: bool, problems: &mut Problems) {
        if let Some(Spot { value: 100, at }) = &self.max_failed_percent {
            let problem = Problem::warning("`max_failed_percent = 100` never brakes: no more than all can fail");
            problems.push(problem.at(at.clone()).hint("write a smaller share, or remove it"));
        }
        if self.written || !complete {
            return;
        }
        let minimum = self.min_failed.as_ref().map(|spot| ("min_failed", &spot.at));
        let release = self.release_after.as_ref().map(|spot| ("release_after", &spot.at));
        for (key, at) in minimum.into_iter().chain(release) {
            let problem = Problem::warning(format!("`{key}` does nothing without `max_failed_percent`"));
            problems.push(problem.at(at.clone()).hint("add max_failed_percent, or remove it"));
        }
    }

    pub(super) fn brake(&self) -> Option<Brake> {
        Some(Brake {
            max_failed_percent: self.max_failed_percent.as_ref()?.value,
            min_failed: self.min_failed.as_ref().map_or(DEFAULT_MIN_FAILED, |spot| spot.value),
            release_after: self.release_after.as_ref().map(|spot| spot.value),
        })
    }

    /// The key that works only where messages are followed.
    pub(super) fn of_messages(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        self.max_failed_percent.iter().map(|spot| ("max_failed_percent", &spot.at))
    }
}
