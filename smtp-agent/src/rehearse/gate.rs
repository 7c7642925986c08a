//! A gate in memory: the same choosing and deciding as the kernel's, with windows of its own.

use std::collections::HashMap;

use smtp_common::{
    choice::choose,
    connection::{Account, Attempt, Route},
    decide::{Ask, Decision, Purses, Shared, charge_chain, decide, decide_units, put_off, uncharge_chain},
    level::{ByHand, Chain, Purse},
    rule::{PlanLimits, Policy, Rule, Rules, rule_flag},
    tally::Unit,
    window::{Both, Lane, Receipt, Span, WindowKey, Windows, spans},
};

use crate::policy::Compiled;

/// What a policy says, by account.
struct Table {
    policy: Policy,
    rules: HashMap<Account, Rule>,
    plans: Vec<PlanLimits>,
}

impl Rules for Table {
    type Ref<T: Copy + 'static> = Box<T>;

    fn part<T: Copy, U: Copy>(whole: Box<T>, part: impl FnOnce(&T) -> &U) -> Box<U> {
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

/// What is remembered from one attempt to the next.
#[derive(Default)]
struct Memory {
    windows: HashMap<WindowKey, Windows>,
    /// When each brake was tripped.
    brakes: HashMap<Account, u64>,
    plans: Vec<PlanLimits>,
    /// What the account shares that is decided about now.
    shared: Vec<Purse>,
}

impl Memory {
    /// Failed messages in the hour that ends at `now`, and all that had an outcome.
    fn failed(&self, account: Account, now: u64) -> (u64, u64) {
        let used = |lane| {
            let windows = self.windows.get(&WindowKey::new(account, lane)).copied().unwrap_or_default();
            windows.hour.used(Span::Hour.slot(now))
        };
        (used(Lane::Failed), used(Lane::Outcomes))
    }
}

impl Purses for Memory {
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32, n: u32) -> Receipt {
        self.windows.entry(*key).or_default().charge(Both::slots(now), limits, which, n)
    }

    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32, n: u32) {
        self.windows.entry(*key).or_default().uncharge(receipt, which, n);
    }

    fn is_braked(&mut self, account: Account, plan: u16, now: u64) -> bool {
        let (Some(limits), Some(tripped)) = (self.plans.get(plan as usize), self.brakes.get(&account)) else {
            return false;
        };
        let (failed, of) = self.failed(account, now);
        limits.holds(*tripped, now, failed, of)
    }

    fn share(&mut self, shared: Shared, ask: &Ask) -> Receipt {
        let purses = self.of(shared);
        charge_chain(|link| purses.get(link), ask, self)
    }

    fn unshare(&mut self, shared: Shared, receipt: Receipt, ask: &Ask) {
        let purses = self.of(shared);
        uncharge_chain(|link| purses.get(link), receipt, ask, self);
    }

    fn put_off(&mut self, shared: Shared, link: u32, which: u32, now: u64) -> Receipt {
        match self.of(shared).get(link as usize) {
            Some(purse) => put_off(purse, which, now, self),
            None => Receipt::FULL,
        }
    }
}

impl Memory {
    fn of(&self, shared: Shared) -> Vec<Purse> {
        match shared {
            Shared::Account => self.shared.clone(),
            // Of counts nobody knows the cgroup.
            Shared::Cgroup => Vec::new(),
        }
    }
}

/// A gate under one policy after the other.
pub(super) struct Gate {
    table: Table,
    /// The purses of each chain, by its number.
    chains: Vec<Vec<Purse>>,
    memory: Memory,
}

/// The parts of an attempt that a count knows.
pub(super) fn attempt(account: Account, route: Route) -> Attempt {
    Attempt { account, route, host_uid: None, cgroup: 0, exception: 0 }
}

impl Gate {
    pub(super) fn new(compiled: &Compiled) -> Self {
        let empty = Table { policy: Policy::open(), rules: HashMap::new(), plans: Vec::new() };
        let mut gate = Self { table: empty, chains: Vec::new(), memory: Memory::default() };
        gate.install(compiled);
        gate
    }

    /// Another policy from now on; windows and brakes stay.
    pub(super) fn install(&mut self, compiled: &Compiled) {
        let rules = compiled.rules.iter().copied().collect();
        self.memory.plans.clone_from(&compiled.plans);
        self.table = Table { policy: compiled.policy, rules, plans: compiled.plans.clone() };
        let purses = compiled.ledger.purses();
        let of = |chain: &Chain| {
            let numbers = chain.purses.into_iter().filter(|number| *number != 0);
            numbers.filter_map(|number| purses.get(number as usize - 1).copied()).collect()
        };
        self.chains = compiled.ledger.chains().iter().map(of).collect();
    }

    fn decided<T>(&mut self, attempt: &Attempt, now: u64, with: impl FnOnce(&Rule, &Policy, &mut Self) -> T) -> T {
        let policy = self.table.policy;
        let choice = choose(&self.table, attempt, now);
        let rule = choice.rule(Box::new(policy), &self.table, attempt);
        let ruling = choice.ruling(&rule, &self.table, attempt);
        let rule =
            Rule { action: ruling.action, origin: ruling.origin, flags: ruling.flags, chain: ruling.chain, ..*rule };
        let chain = (rule.chain as usize).checked_sub(1).and_then(|at| self.chains.get(at));
        self.memory.shared = chain.cloned().unwrap_or_default();
        with(&rule, &policy, self)
    }

    /// What becomes of a connection.
    pub(super) fn connection(&mut self, attempt: &Attempt, now: u64) -> Decision {
        self.decided(attempt, now, |rule, policy, gate| decide(policy, &rule.into(), attempt, now, &mut gate.memory))
    }

    /// What becomes of a message or recipient.
    pub(super) fn unit(&mut self, attempt: &Attempt, unit: Unit, now: u64) -> Decision {
        self.decided(attempt, now, |rule, policy, gate| {
            let limits = gate.limits(rule);
            decide_units(policy, &rule.into(), &limits, attempt, unit, 1, now, &mut gate.memory)
        })
    }

    /// A message has an outcome, for the failure brake.
    pub(super) fn outcome(&mut self, attempt: &Attempt, failed: bool, now: u64) {
        self.decided(attempt, now, |rule, _, gate| {
            let held = attempt.route == Route::Remote || rule.flags & rule_flag::LOCAL != 0;
            if !held || rule.flags & rule_flag::BRAKE == 0 {
                return;
            }
            let (account, limits) = (attempt.account, gate.limits(rule));
            let memory = &mut gate.memory;
            let mut note = |lane| {
                let _ = memory.charge(&WindowKey::new(account, lane), now, Both::UNLIMITED, spans::HOUR, 1);
            };
            note(Lane::Outcomes);
            if !failed {
                return;
            }
            note(Lane::Failed);
            let (failed, of) = memory.failed(account, now);
            let holds = memory.brakes.get(&account).is_some_and(|at| limits.holds(*at, now, failed, of));
            if limits.is_too_much(failed, of) && !holds {
                memory.brakes.insert(account, now);
            }
        });
    }

    fn limits(&self, rule: &Rule) -> PlanLimits {
        self.table.plans.get(rule.plan as usize).copied().unwrap_or(PlanLimits::NONE)
    }
}
