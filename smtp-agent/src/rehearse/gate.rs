//! A gate in memory: the same choosing and deciding as the kernel's, with windows of its own.

use std::{collections::HashMap, marker};

use smtp_common::{
    choice::choose,
    connection::{Account, Attempt, Route},
    counter::{Reason, Verdict},
    decide::{Ask, Decision, Purses, Shared, charge_chain, decide},
    level::{ByHand, Chain, Purse},
    rule::{BRAKE_STAYS, PlanLimits, Policy, Rule, Rules, rule_flag},
    tally::Unit,
    window::{Both, Lane, Receipt, Span, WindowKey, spans},
};

use crate::policy::{
    Compiled,
    explain::{Copy, Question},
};

const SECOND: u64 = 1_000_000_000;

/// When the slot of an hour's window ends that a time lies in. The slots of a day's are whole numbers of them.
pub(super) const fn slot_end(now: u64) -> u64 {
    (Span::Hour.slot(now) + 1).saturating_mul(Span::Hour.slot_nanos())
}

const _: () = assert!(Span::Day.slot_nanos().is_multiple_of(Span::Hour.slot_nanos()));

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

/// What connections are charged to that no limit can stop.
pub(super) struct Free {
    pub(super) charged: Vec<WindowKey>,
    /// The failure brake can.
    pub(super) has_brake: bool,
}

/// Windows without any room under whatever limit: what passes nevertheless, no limit can stop.
struct Brim {
    is_braked: bool,
    shared: Vec<Purse>,
    /// What was charged that has no limit.
    charged: Vec<WindowKey>,
}

impl Purses for Brim {
    fn charge(&mut self, key: &WindowKey, _: u64, limits: Both, _: u32, _: u32) -> Receipt {
        if limits.is_set() {
            return Receipt::FULL;
        }
        self.charged.push(*key);
        Receipt::NONE
    }

    fn uncharge(&mut self, _: &WindowKey, _: Receipt, _: u32, _: u32) {}

    fn is_braked(&mut self, _: Account, _: u16, _: u64) -> bool {
        self.is_braked
    }

    fn share(&mut self, shared: Shared, ask: &Ask) -> Receipt {
        let purses = if shared == Shared::Account { std::mem::take(&mut self.shared) } else { Vec::new() };
        charge_chain(|link| purses.get(link), ask, self)
    }

    fn unshare(&mut self, _: Shared, _: Receipt, _: &Ask) {}

    fn put_off(&mut self, _: Shared, _: u32, _: u32, _: u64) -> Receipt {
        Receipt::FULL
    }
}

/// The parts of an attempt that a count knows, and what exceptions say of it.
pub(super) fn attempt(account: Account, route: Route, exception: u8) -> Attempt {
    Attempt { account, route, host_uid: None, cgroup: 0, exception }
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

    /// Until when a connection that was refused just now, for this reason, is refused at every further try.
    ///
    /// Within one slot no window gets emptier: whatever is charged meanwhile, to whomever, only fills them, and what is refused
    /// is charged to nobody. A limit that has no room has none until the slot ends, and a host's or a hard one that is used up
    /// speaks before any other. A brake asks for the outcomes of the hour, of which there are no new ones while it bars the
    /// account's messages, and may besides lapse in the midst of a slot.
    pub(super) fn refuses_until(&self, reason: Reason, now: u64) -> u64 {
        let brake = match (reason, self.memory.limits, self.memory.tripped) {
            (Reason::FailedShare, Some(limits), Some(tripped))
                if limits.brake_seconds != 0 && limits.brake_seconds != BRAKE_STAYS =>
            {
                tripped + u64::from(limits.brake_seconds) * SECOND
            }
            _ => u64::MAX,
        };
        // A greater limit that fills up might yet put off what the soft band of a lesser one has no room for.
        let puts_off = |(purse, _): &(Purse, String)| purse.hour.band != 0 || purse.day.band != 0;
        if self.memory.shared.iter().flatten().any(puts_off) {
            return now;
        }
        slot_end(now).min(brake)
    }

    /// What connections are charged to that no limit of this policy can stop; `None` where one can.
    pub(super) fn free(&mut self, attempt: &Attempt) -> Option<Free> {
        let rule = self.rule(attempt, 0);
        let shared: Vec<_> = self.memory.shared[Shared::Account as usize].iter().map(|(purse, _)| *purse).collect();
        [false, true].into_iter().find_map(|has_brake| {
            let mut brim = Brim { is_braked: !has_brake, shared: shared.clone(), charged: Vec::new() };
            let decision = decide(&self.table.policy, &(&rule).into(), attempt, 0, &mut brim);
            let passes = matches!(decision.verdict, Verdict::Allowed | Verdict::Exempt);
            passes.then_some(Free { charged: brim.charged, has_brake })
        })
    }

    /// So many connections in one slot that nothing stops.
    pub(super) fn let_out(&mut self, free: &Free, n: u32, now: u64) {
        for key in &free.charged {
            let _ = self.memory.charge(key, now, Both::UNLIMITED, spans::BOTH, n);
        }
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
