//! One stretch after the other before the gate, and what is told of it.
//!
//! Attempts that change nothing are not walked one by one. A refusal is charged to nobody, and stands until the gate says
//! so: the rest of the flow up to there is refused with it. What nothing can stop is let out in one, up to the next attempt
//! that something can. So a stretch costs what it admits under limits, not what is attempted in it.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use smtp_common::{
    connection::{Account, Attempt, Route},
    counter::{Reason, Verdict},
    tally::Unit,
};

use super::{
    DAY, Flow, Left, Rehearsal, Told,
    gate::{Free, Gate, attempt, slot_end},
    series::{Next, Queues, Series, share},
};

const NANOS_PER_MILLI: u64 = 1_000_000;

pub(super) const fn nanos(time: i64) -> u64 {
    let millis = if time < 0 { 0 } else { time as u64 };
    millis.saturating_mul(NANOS_PER_MILLI)
}

/// The first millisecond that is not before a time.
fn millis(nanos: u64) -> i64 {
    i64::try_from(nanos.div_ceil(NANOS_PER_MILLI)).unwrap_or(i64::MAX)
}

/// A flow on its way.
struct Line<'a> {
    flow: &'a Flow,
    who: Attempt,
    series: Series,
    /// Number of the next attempt.
    next: u64,
    /// Attempts that passed, whose messages are told of.
    brought: u64,
    /// Of attempts that no limit can stop.
    free: Option<Free>,
}

impl<'a> Line<'a> {
    fn new(flow: &'a Flow, accounts: &[(Account, String)], gate: &mut Gate) -> Option<Self> {
        let who = attempt(accounts[flow.account].0, flow.route?, flow.exception);
        // What was said in sessions from before has no connection here: it is brought by one that costs nothing.
        let count = flow.attempts.max(u64::from(flow.messages + flow.recipients > 0));
        let free = if count > 1 { gate.free(&who) } else { None };
        Some(Self {
            flow,
            who,
            series: Series { from: flow.from, length: flow.length, count },
            next: 0,
            brought: 0,
            free,
        })
    }

    /// What is left of it, where no limit can stop it and no messages come with it.
    fn free(&self) -> Option<&Free> {
        let brings = self.flow.messages + self.flow.recipients > 0 && self.brought < self.flow.admitted.max(1);
        self.free.as_ref().filter(|_| !brings && self.next < self.series.count)
    }

    /// Of the next attempt.
    fn time(&self) -> i64 {
        self.series.time(self.next)
    }

    fn queue(&self, place: usize, queues: &mut Queues) {
        if self.next < self.series.count {
            let is_free = self.free().is_some_and(|free| !free.has_brake);
            queues.push(self.time(), place, is_free);
        }
    }
}

pub(super) struct Stage<'a> {
    pub(super) accounts: &'a [(Account, String)],
    pub(super) told: Vec<Told>,
    days: BTreeMap<i64, Left>,
    connections: Left,
    pub(super) messages: Left,
}

impl<'a> Stage<'a> {
    pub(super) fn new(accounts: &'a [(Account, String)]) -> Self {
        let told = accounts.iter().map(|(_, name)| Told { account: name.clone(), ..Told::default() }).collect();
        Self { accounts, told, days: BTreeMap::new(), connections: Left::default(), messages: Left::default() }
    }

    /// Plays the flows of one stretch: they begin together.
    pub(super) fn play(&mut self, stretch: &[Flow], gate: &mut Gate) {
        let mut lines: Vec<_> = stretch.iter().filter_map(|flow| Line::new(flow, self.accounts, gate)).collect();
        let mut queues = Queues::default();
        lines.iter().enumerate().for_each(|(place, line)| line.queue(place, &mut queues));
        let mut stopped = HashSet::new();
        while let Some(Next { place, until, is_free }) = queues.pop() {
            let line = &mut lines[place];
            let until = until.min(millis(slot_end(nanos(line.time())))).max(line.time().saturating_add(1));
            let is_quiet = line.free().is_some();
            // A brake that does not hold comes to hold within a slot by the outcome of a message alone.
            if is_free || self.act(line, gate, &mut stopped) && is_quiet {
                self.let_out(line, until, gate);
            }
            line.queue(place, &mut queues);
        }
        self.sum_up(stretch, stopped);
    }

    /// What is told of a whole stretch.
    pub(super) fn sum_up(&mut self, stretch: &[Flow], stopped: HashSet<usize>) {
        for account in stopped {
            self.told[account].stretches += 1;
        }
        for flow in stretch {
            let told = &mut self.told[flow.account];
            told.attempts += flow.attempts;
            told.stopped_then += flow.attempts - flow.admitted.min(flow.attempts);
            told.messages += flow.messages;
            told.recipients += flow.recipients;
        }
    }

    /// The next attempt of a flow, and what is refused with it. Returns whether it passed.
    fn act(&mut self, line: &mut Line<'_>, gate: &mut Gate, stopped: &mut HashSet<usize>) -> bool {
        let (flow, number, time) = (line.flow, line.next, line.time());
        let now = nanos(time);
        line.next += 1;
        let mut passes = true;
        if number < flow.attempts {
            let decision = gate.decide(&line.who, None, now);
            passes = matches!(decision.verdict, Verdict::Allowed | Verdict::Exempt);
            if decision.verdict == Verdict::Refused {
                let until = gate.refuses_until(decision.reason(), now);
                line.next = line.next.max(line.series.before(millis(until)));
            }
            if !passes && stopped.insert(flow.account) {
                self.first_stop(flow.account, time, decision.reason());
            }
            self.note(flow, number..line.next, time, decision.verdict);
        }
        self.say(flow, number..line.next);
        if !passes {
            return false;
        }
        let brought = line.brought;
        line.brought += 1;
        if let Some(reason) = self.bring(line, brought, gate, now)
            && stopped.insert(flow.account)
        {
            self.first_stop(flow.account, time, reason);
        }
        true
    }

    /// Attempts of a flow before a time of the same slot, none of which anything stops.
    fn let_out(&mut self, line: &mut Line<'_>, until: i64, gate: &mut Gate) {
        let Some(free) = &line.free else { return };
        let (number, time) = (line.next, line.time());
        let most = number.saturating_add(u32::MAX.into());
        let next = line.series.before(until).min(most);
        // A window that slid ahead to what comes later would be charged there by all that come before.
        if next <= number {
            return;
        }
        line.next = next;
        gate.let_out(free, (line.next - number) as u32, nanos(time));
        self.note(line.flow, number..line.next, time, Verdict::Allowed);
        self.say(line.flow, number..line.next);
    }

    /// The messages and recipients of the connection with this number among those that passed. Returns why one was refused.
    fn bring(&mut self, line: &Line<'_>, number: u64, gate: &mut Gate, now: u64) -> Option<Reason> {
        let (flow, who, of) = (line.flow, &line.who, line.flow.admitted.max(1));
        let share = |whole| share(whole, number..number + 1, of);
        let mut refused = None;
        // In an instant in which one is refused, all that follow are.
        let recipients = share(flow.recipients);
        for recipient in 0..recipients {
            let decision = gate.decide(who, Some(Unit::Recipient), now);
            if decision.verdict == Verdict::Refused {
                self.told[flow.account].recipients_refused += recipients - recipient;
                refused = Some(decision.reason());
                break;
            }
        }
        let (messages, failed) = (share(flow.messages), share(flow.failed));
        for message in 0..messages {
            let decision = gate.decide(who, Some(Unit::Message), now);
            if decision.verdict == Verdict::Refused {
                self.told[flow.account].messages_refused += messages - message;
                refused.get_or_insert(decision.reason());
                break;
            }
            if who.route == Route::Remote {
                self.messages.would += 1;
            }
            gate.outcome(who, message < failed, now);
        }
        refused
    }

    /// Attempts of a flow with these numbers, the first at this time, had this verdict.
    pub(super) fn note(&mut self, flow: &Flow, numbers: Range<u64>, time: i64, verdict: Verdict) {
        let (told, n) = (&mut self.told[flow.account], numbers.end - numbers.start);
        let passed = match verdict {
            Verdict::Allowed | Verdict::Exempt => &mut told.passed,
            Verdict::Deferred | Verdict::WouldDefer => &mut told.deferred,
            Verdict::Redirected | Verdict::WouldRedirect => &mut told.redirected,
            Verdict::Refused | Verdict::WouldRefuse => &mut told.refused,
        };
        *passed += n;
        if flow.route != Some(Route::Remote) {
            return;
        }
        let then = numbers.end.min(flow.admitted) - numbers.start.min(flow.admitted);
        let would = if matches!(verdict, Verdict::Allowed | Verdict::Exempt) { n } else { 0 };
        for sum in [self.days.entry(time.div_euclid(DAY)).or_default(), &mut self.connections] {
            sum.then += then;
            sum.would += would;
        }
    }

    /// Messages that came with attempts of these numbers.
    pub(super) fn say(&mut self, flow: &Flow, numbers: Range<u64>) {
        if flow.route == Some(Route::Remote) {
            self.messages.then += share(flow.messages, numbers, flow.attempts.max(1));
        }
    }

    pub(super) fn first_stop(&mut self, account: usize, time: i64, reason: Reason) {
        let told = &mut self.told[account];
        if told.first_stop.is_none() {
            (told.first_stop, told.reason) = (Some(time), Some(reason.name()));
        }
    }

    pub(super) fn end(self) -> Rehearsal {
        let mut accounts: Vec<_> =
            self.told.into_iter().filter(|told| told.attempts + told.messages + told.recipients > 0).collect();
        accounts.sort_by(|a, b| {
            let rank = |told: &Told| (told.stopped() + told.messages_refused + told.recipients_refused, told.attempts);
            rank(b).cmp(&rank(a)).then_with(|| a.account.cmp(&b.account))
        });
        let most = |of: fn(&Left) -> u64| self.days.values().map(of).max().unwrap_or(0);
        let busiest_day = Left { then: most(|left| left.then), would: most(|left| left.would) };
        Rehearsal { accounts, connections: self.connections, messages: self.messages, busiest_day }
    }
}
