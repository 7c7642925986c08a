//! A gate in memory: the same choosing and deciding as the kernel's, with windows of its own.

use std::{collections::HashMap, marker};

use smtp_common::{
    choice::choose,
    connection::{Account, Attempt, Route},
    decide::{Decision, Purses},
    level::{ByHand, Chain, Purse},
    rule::{PlanLimits, Policy, Rule, Rules, rule_flag},
    tally::Unit,
    window::{Both, Lane, WindowKey, spans},
};

use crate::policy::{
    Compiled,
    explain::{Copy, Question},
};

/// What a policy says, by account.
struct Table {
    policy: Policy,
    rules: HashMap<Account, Rule>,
    plans: Vec<PlanLimits>,
}

impl Rules for Table {
    type Ref<T: marker::Copy + 'static> = Box<T>;

    fn part<T: marker::Copy, U: marker::Copy>(whole: Box<T>, part: impl FnOnce(&T) -> &U) -> Box<U> {
        Box::new(*part(&whole))
    }

    fn rule(&self, account: Account) -> Option<Box<Rule>> {
        self.rules.get(&account).copied().map(Box::new)
    }

    fn plan(&self, plan: u16) -> Option<Box<PlanLimits>> {
        self.plans.get(plan as usize).copied().map(Box::new)
    }

    fn by_hand(&self, _: Account) -> Option<Box<ByHand>> {
        None
    }

    fn chain_of(&self, _: u64) -> Option<Box<Chain>> {
        None
    }
}

/// A gate under one policy after the other.
pub(super) struct Gate {
    table: Table,
    /// The purses of each chain, by its number, each with its name, which nobody asks for here.
    chains: Vec<Vec<(Purse, String)>>,
    /// The windows of all; the rest of it is that of the account which is decided about now.
    memory: Copy,
    /// When each account's failure brake was tripped.
    brakes: HashMap<Account, u64>,
}

/// The parts of an attempt that a count knows.
pub(super) fn attempt(account: Account, route: Route) -> Attempt {
    Attempt { account, route, host_uid: None, cgroup: 0, exception: 0 }
}

impl Gate {
    pub(super) fn new(compiled: &Compiled) -> Self {
        let empty = Table { policy: Policy::open(), rules: HashMap::new(), plans: Vec::new() };
        let mut gate = Self { table: empty, chains: Vec::new(), memory: Copy::default(), brakes: HashMap::new() };
        gate.install(compiled);
        gate
    }

    /// Another policy from now on; windows and brakes stay.
    pub(super) fn install(&mut self, compiled: &Compiled) {
        let rules = compiled.rules.iter().copied().collect();
        self.table = Table { policy: compiled.policy, rules, plans: compiled.plans.clone() };
        let purses = compiled.ledger.purses();
        let of = |chain: &Chain| {
            let numbers = chain.purses.into_iter().filter(|number| *number != 0);
            numbers.filter_map(|number| Some((*purses.get(number as usize - 1)?, String::new()))).collect()
        };
        self.chains = compiled.ledger.chains().iter().map(of).collect();
    }

    /// The rule of an attempt, as it holds; what it needs of the memory is put there.
    fn rule(&mut self, attempt: &Attempt, now: u64) -> Rule {
        let choice = choose(&self.table, attempt, now);
        let rule = choice.rule(Box::new(self.table.policy), &self.table, attempt);
        let ruling = choice.ruling(&rule, &self.table, attempt);
        let rule =
            Rule { action: ruling.action, origin: ruling.origin, flags: ruling.flags, chain: ruling.chain, ..*rule };
        let chain = (rule.chain as usize).checked_sub(1).and_then(|at| self.chains.get(at));
        // Of counts nobody knows the cgroup.
        self.memory.shared = [chain.cloned().unwrap_or_default(), Vec::new()];
        self.memory.limits = self.table.plans.get(rule.plan as usize).copied();
        self.memory.tripped = self.brakes.get(&attempt.account).copied();
        rule
    }

    /// What becomes of a connection (`unit` is `None`), a message or a recipient.
    pub(super) fn decide(&mut self, attempt: &Attempt, unit: Option<Unit>, now: u64) -> Decision {
        let (rule, policy) = (self.rule(attempt, now), self.table.policy);
        Question { policy: &policy, rule: &rule, attempt, unit, now }.decide(&mut self.memory)
    }

    /// A message has an outcome, for the failure brake.
    pub(super) fn outcome(&mut self, attempt: &Attempt, failed: bool, now: u64) {
        let rule = self.rule(attempt, now);
        let held = attempt.route == Route::Remote || rule.flags & rule_flag::LOCAL != 0;
        if !held || rule.flags & rule_flag::BRAKE == 0 {
            return;
        }
        let (account, memory) = (attempt.account, &mut self.memory);
        let mut note = |lane| {
            let _ = memory.charge(&WindowKey::new(account, lane), now, Both::UNLIMITED, spans::HOUR, 1);
        };
        note(Lane::Outcomes);
        if !failed {
            return;
        }
        note(Lane::Failed);
        let (failed, of) = memory.failed(account, now);
        let is_too_much = memory.limits.is_some_and(|limits| limits.is_too_much(failed, of));
        if is_too_much && !memory.brake_holds(account, now) {
            self.brakes.insert(account, now);
        }
    }
}
