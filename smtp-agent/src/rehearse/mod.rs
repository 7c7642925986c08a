//! What a policy would have done with what has happened, before anybody enforces it: recorded counts are replayed through
//! the same pure decision as the kernel's.
//!
//! Counts are exact and know the account, the route and the port, to the minute or, of long ago, the hour. Within such a
//! stretch attempts are spread evenly. To which destinations they went, which exceptions may ask for, is told by the
//! stretch's events ([`Flow::exception`]). What only single attempts know (their cgroup), and what was said by hand, is not
//! replayed: [`left_out`] names it.

mod gate;
mod series;
mod stage;

use serde::Serialize;
use smtp_common::connection::{Account, Route};

use crate::{
    config::{Config, Quotas},
    policy::{Compiled, limits::Moment},
};
use gate::Gate;
use stage::Stage;

/// The longest time that a limit holds over, in milliseconds.
pub const DAY: i64 = 86_400_000;

/// What one account did on one route in one stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// Wall clock, milliseconds since 1970.
    pub from: i64,
    pub length: i64,
    /// Number of the account in the list that goes with it.
    pub account: usize,
    pub route: Option<Route>,
    /// What an exception says of it, as [`smtp_common::connection::Attempt::exception`] has it; 0 for nothing.
    pub exception: u8,
    /// Attempts to connect, and those of them that were let through.
    pub attempts: u64,
    pub admitted: u64,
    pub messages: u64,
    /// Messages that were deferred or rejected.
    pub failed: u64,
    pub recipients: u64,
}

impl Flow {
    /// The part of it that lies before a time; `None` where all of it lies behind.
    pub fn until(self, end: i64) -> Option<Self> {
        let left = end.saturating_sub(self.from).min(self.length);
        if left <= 0 {
            return None;
        }
        let part = |n: u64| (u128::from(n) * left as u128 / self.length as u128) as u64;
        Some(Self {
            length: left,
            attempts: part(self.attempts),
            admitted: part(self.admitted),
            messages: part(self.messages),
            failed: part(self.failed),
            recipients: part(self.recipients),
            ..self
        })
    }
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

/// What is not rehearsed: parts of a configuration, and what was said by hand.
pub fn left_out(config: &Config, compiled: &Compiled) -> Vec<&'static str> {
    let parts = [
        (!compiled.cgroups.is_empty(), "rules for cgroups: counts do not tell the cgroup"),
        (
            config.exceptions.iter().any(|one| one.cgroup.is_some()),
            "exceptions for cgroups: counts do not tell the cgroup",
        ),
        (true, "blocks and allows said by hand: everybody is held to the configuration alone"),
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

/// Replays flows, in any order, of these accounts, and tells of those from `begin` on: what comes before only fills the
/// windows. `moment` is the time of the week at a time of the wall clock.
pub fn rehearse(
    mut flows: Vec<Flow>,
    begin: i64,
    accounts: &[(Account, String)],
    policies: &mut Policies<'_>,
    moment: impl Fn(i64) -> Moment,
) -> Rehearsal {
    flows.sort_unstable_by_key(|flow| (flow.from, flow.account, flow.route, flow.exception));
    let (mut before, mut stage) = (Stage::new(accounts), Stage::new(accounts));
    let mut gate: Option<Gate> = None;
    for stretch in flows.chunk_by(|a, b| a.from == b.from) {
        let from = stretch[0].from;
        if let Some(compiled) = policies.changed(moment(from)) {
            match &mut gate {
                Some(gate) => gate.install(&compiled),
                None => gate = Some(Gate::new(&compiled)),
            }
        }
        if let Some(gate) = &mut gate {
            let stage = if from < begin { &mut before } else { &mut stage };
            stage.play(stretch, gate);
        }
    }
    stage.end()
}

#[cfg(test)]
mod tests;
