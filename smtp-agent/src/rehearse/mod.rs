//! What a policy would have done with what has happened, before anybody enforces it: recorded counts are replayed through
//! the same pure decision as the kernel's.
//!
//! Counts are exact and know the account, the route and the port, to the minute or, of long ago, the hour. Within such a
//! stretch attempts are spread evenly. What only single attempts know (destination, cgroup) is not replayed:
//! [`left_out`] names the parts of a configuration that are about it.

mod gate;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use smtp_common::{
    connection::{Account, Route},
    counter::{Reason, Verdict},
    tally::Unit,
};

use crate::{
    config::{Config, Quotas},
    policy::{Compiled, limits::Moment},
};
use gate::{Gate, attempt};

const NANOS_PER_MILLI: u64 = 1_000_000;
const DAY: i64 = 86_400_000;

/// What one account did on one route in one stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// Wall clock, milliseconds since 1970.
    pub from: i64,
    pub length: i64,
    /// Number of the account in the list that goes with it.
    pub account: usize,
    pub route: Option<Route>,
    /// Attempts to connect, and those of them that were let through.
    pub attempts: u64,
    pub admitted: u64,
    pub messages: u64,
    /// Messages that were deferred or rejected.
    pub failed: u64,
    pub recipients: u64,
}

/// What would have become of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    pub account: String,
    pub attempts: u64,
    /// That were stopped when they happened.
    pub stopped_then: u64,
    /// By verdict, as with `mode = "enforce"`.
    pub passed: u64,
    pub deferred: u64,
    pub redirected: u64,
    pub refused: u64,
    pub messages: u64,
    pub messages_refused: u64,
    pub recipients: u64,
    pub recipients_refused: u64,
    /// When it would first have been stopped (milliseconds since 1970), and by what.
    pub first_stop: Option<i64>,
    pub reason: Option<&'static str>,
    /// Minutes (of long ago: hours) in which it would have been stopped.
    pub stretches: u64,
}

impl Told {
    pub fn stopped(&self) -> u64 {
        self.deferred + self.redirected + self.refused
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped() + self.messages_refused + self.recipients_refused > 0
    }
}

/// What leaves the host, then and under the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    pub then: u64,
    pub would: u64,
}

impl Left {
    /// What would not have left any more.
    pub fn spared(&self) -> u64 {
        self.then.saturating_sub(self.would)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rehearsal {
    /// Who would have been stopped most, first.
    pub accounts: Vec<Told>,
    /// Connections to remote servers, and messages on them.
    pub connections: Left,
    pub messages: Left,
    /// The most connections to remote servers in a day (UTC).
    pub busiest_day: Left,
}

/// The parts of a configuration that are not rehearsed.
pub fn left_out(config: &Config, compiled: &Compiled) -> Vec<&'static str> {
    let parts = [
        (!compiled.cgroups.is_empty(), "rules for cgroups: counts do not tell the cgroup"),
        (!config.exceptions.is_empty(), "exceptions: counts do not tell the destination"),
    ];
    parts.into_iter().filter(|(there, _)| *there).map(|(_, what)| what).collect()
}

/// A policy at every moment of the week, compiled where the limits change.
pub struct Policies<'a> {
    config: &'a Config,
    compile: Box<dyn FnMut(Moment) -> Compiled + 'a>,
    at: Vec<Quotas>,
}

impl<'a> Policies<'a> {
    pub fn new(config: &'a Config, compile: impl FnMut(Moment) -> Compiled + 'a) -> Self {
        Self { config, compile: Box::new(compile), at: Vec::new() }
    }

    /// The policy of a moment, if it is another than that of the moment before.
    fn changed(&mut self, moment: Moment) -> Option<Compiled> {
        let quotas: Vec<_> = self.config.plans.iter().map(|plan| moment.quotas(plan)).collect();
        // A configuration without plans has a policy, too.
        let quotas = if quotas.is_empty() { vec![Quotas::default()] } else { quotas };
        (quotas != self.at).then(|| {
            self.at = quotas;
            (self.compile)(moment)
        })
    }
}

/// Replays flows, in any order, of these accounts. `moment` is the time of the week at a time of the wall clock.
pub fn rehearse(
    mut flows: Vec<Flow>,
    accounts: &[(Account, String)],
    policies: &mut Policies<'_>,
    moment: impl Fn(i64) -> Moment,
) -> Rehearsal {
    flows.sort_by_key(|flow| (flow.from, flow.account, flow.route));
    let mut stage = Stage::new(accounts);
    let mut gate: Option<Gate> = None;
    for stretch in flows.chunk_by(|a, b| a.from == b.from) {
        if let Some(compiled) = policies.changed(moment(stretch[0].from)) {
            match &mut gate {
                Some(gate) => gate.install(&compiled),
                None => gate = Some(Gate::new(&compiled)),
            }
        }
        if let Some(gate) = &mut gate {
            stage.play(stretch, gate);
        }
    }
    stage.end()
}

/// One attempt of a flow, with what it brings.
struct Act {
    time: i64,
    flow: usize,
    /// How many of its flow came before it.
    number: u64,
}

struct Stage<'a> {
    accounts: &'a [(Account, String)],
    told: Vec<Told>,
    days: BTreeMap<i64, Left>,
    connections: Left,
    messages: Left,
}

/// Of `whole` things that are shared out evenly among `of`, those of number `n`.
fn share(whole: u64, n: u64, of: u64) -> u64 {
    let upto = |n: u64| (u128::from(whole) * u128::from(n) / u128::from(of.max(1))) as u64;
    if n < of { upto(n + 1) - upto(n) } else { 0 }
}

impl<'a> Stage<'a> {
    fn new(accounts: &'a [(Account, String)]) -> Self {
        let told = accounts.iter().map(|(_, name)| Told { account: name.clone(), ..Told::default() }).collect();
        Self { accounts, told, days: BTreeMap::new(), connections: Left::default(), messages: Left::default() }
    }

    fn play(&mut self, stretch: &[Flow], gate: &mut Gate) {
        let mut acts = Vec::new();
        for (at, flow) in stretch.iter().enumerate() {
            // What was said in sessions from before has no connection here: it is brought by one that costs nothing.
            let count = flow.attempts.max(u64::from(flow.messages + flow.recipients > 0));
            acts.extend((0..count).map(|number| {
                let time =
                    flow.from + (flow.length as i128 * (2 * i128::from(number) + 1) / (2 * i128::from(count))) as i64;
                Act { time, flow: at, number }
            }));
        }
        acts.sort_by_key(|act| (act.time, act.flow));
        let mut brought: HashMap<usize, u64> = HashMap::new();
        let mut stopped = HashSet::new();
        for act in acts {
            let flow = &stretch[act.flow];
            let Some(route) = flow.route else { continue };
            let who = attempt(self.accounts[flow.account].0, route);
            let now = act.time.max(0) as u64 * NANOS_PER_MILLI;
            let mut passes = true;
            if act.number < flow.attempts {
                let decision = gate.decide(&who, None, now);
                passes = matches!(decision.verdict, Verdict::Allowed | Verdict::Exempt);
                self.note(flow.account, decision.verdict);
                if !passes && stopped.insert(flow.account) {
                    self.first_stop(flow.account, act.time, decision.reason());
                }
                if route == Route::Remote {
                    let then = u64::from(act.number < flow.admitted);
                    self.leave(act.time, Left { then, would: u64::from(passes) });
                }
            }
            if route == Route::Remote {
                self.messages.then += share(flow.messages, act.number, flow.attempts.max(1));
            }
            if !passes {
                continue;
            }
            let before = brought.entry(act.flow).or_default();
            let number = *before;
            *before += 1;
            if let Some(reason) = self.bring(flow, route, number, gate, now)
                && stopped.insert(flow.account)
            {
                self.first_stop(flow.account, act.time, reason);
            }
        }
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

    /// The messages and recipients of the connection with this number among those that passed. Returns why one was refused.
    fn bring(&mut self, flow: &Flow, route: Route, number: u64, gate: &mut Gate, now: u64) -> Option<Reason> {
        let who = attempt(self.accounts[flow.account].0, route);
        let of = flow.admitted.max(1);
        let mut refused = None;
        for _ in 0..share(flow.recipients, number, of) {
            let decision = gate.decide(&who, Some(Unit::Recipient), now);
            if decision.verdict == Verdict::Refused {
                self.told[flow.account].recipients_refused += 1;
                refused.get_or_insert(decision.reason());
            }
        }
        let failed = share(flow.failed, number, of);
        for message in 0..share(flow.messages, number, of) {
            let decision = gate.decide(&who, Some(Unit::Message), now);
            if decision.verdict == Verdict::Refused {
                self.told[flow.account].messages_refused += 1;
                refused.get_or_insert(decision.reason());
                continue;
            }
            if route == Route::Remote {
                self.messages.would += 1;
            }
            gate.outcome(&who, message < failed, now);
        }
        refused
    }

    fn note(&mut self, account: usize, verdict: Verdict) {
        let told = &mut self.told[account];
        match verdict {
            Verdict::Allowed | Verdict::Exempt => told.passed += 1,
            Verdict::Deferred | Verdict::WouldDefer => told.deferred += 1,
            Verdict::Redirected | Verdict::WouldRedirect => told.redirected += 1,
            Verdict::Refused | Verdict::WouldRefuse => told.refused += 1,
        }
    }

    fn first_stop(&mut self, account: usize, time: i64, reason: Reason) {
        let told = &mut self.told[account];
        if told.first_stop.is_none() {
            (told.first_stop, told.reason) = (Some(time), Some(reason.name()));
        }
    }

    fn leave(&mut self, time: i64, left: Left) {
        for sum in [self.days.entry(time.div_euclid(DAY)).or_default(), &mut self.connections] {
            sum.then += left.then;
            sum.would += left.would;
        }
    }

    fn end(self) -> Rehearsal {
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

#[cfg(test)]
mod tests;
