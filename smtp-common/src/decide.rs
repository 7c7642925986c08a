//! The decision: what becomes of one attempt, and what it is charged to.
//!
//! Several scopes apply to a connection: its account, what that shares with others (plan, groups, cgroups), and the host,
//! each with an hour and a day; and only one scope can be locked at a time. So a charge is a reservation that is taken
//! back when another scope is full. Taking back can only make room, so no interleaving admits more than a window's limit;
//! a competitor that meets a reservation about to be returned may be told "full" for that instant.

mod scopes;

pub use scopes::{Ask, charge_chain, put_off, uncharge_chain};

use crate::{
    choice::Ruling,
    connection::{Account, Attempt},
    counter::{Reason, Verdict},
    level::{Level, chain_flag},
    rule::{Action, OnSoft, Origin, PlanLimits, Policy, rule_flag},
    tally::Unit,
    window::{Both, Lane, Receipt, WindowKey, spans},
};
use scopes::Scopes;

/// Where windows are kept. Each call is atomic by itself; nothing is held between calls.
pub trait Purses {
    /// Adds `n` to the windows in `which` (bits of [`spans`]) at `now` (nanoseconds of the boot clock), unless one of
    /// them has no room for so many: then to none.
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32, n: u32) -> Receipt;

    /// Takes back what a receipt of a charge with the same key, `which` and `n` stands for.
    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32, n: u32);

    /// Whether the failure brake of an account's plan holds it now.
    fn is_braked(&mut self, account: Account, plan: u16, now: u64) -> bool;

    /// [`charge_chain`] of what an account shares with others; [`Receipt::NONE`] where that is nothing.
    fn share(&mut self, shared: Shared, ask: &Ask) -> Receipt;

    /// [`uncharge_chain`] of it.
    fn unshare(&mut self, shared: Shared, receipt: Receipt, ask: &Ask);

    /// [`put_off`] in one of its purses.
    fn put_off(&mut self, shared: Shared, link: u32, which: u32, now: u64) -> Receipt;
}

/// With whom an account shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shared {
    /// Everyone on its plan, and the members of its groups.
    Account,
    /// Whoever is in its cgroups.
    Cgroup,
}

/// Verdict and the limit, if any, that brought it about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Decision {
    pub verdict: Verdict,
    /// Number of a [`Reason`].
    pub why: u8,
}

impl Decision {
    #[inline(always)]
    const fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, why: reason as u8 }
    }

    #[inline(always)]
    const fn refused(why: u8) -> Self {
        Self { verdict: Verdict::Refused, why }
    }

    pub fn reason(&self) -> Reason {
        Reason::from_u8(self.why).unwrap_or(Reason::WithinLimits)
    }
}

/// What a rule that is no limit says by itself.
#[inline(always)]
const fn reason_of(rule: &Ruling<'_>, otherwise: Reason) -> Reason {
    if rule.origin == Origin::ByHand as u8 {
        Reason::ByHand
    } else if rule.origin == Origin::Exception as u8 {
        Reason::Exception
    } else {
        otherwise
    }
}

/// Decides one attempt under `rule` at `now` (nanoseconds of the boot clock) and charges it: an admitted
/// attempt to every window that applies, a deferred one to the soft band of the greatest scope that is full, a
/// refused one to none.
///
/// The verdict is the one of enforce mode; [`Verdict::observed`] turns it into the other.
#[inline(always)]
pub fn decide<P: Purses>(policy: &Policy, rule: &Ruling<'_>, attempt: &Attempt, now: u64, purses: &mut P) -> Decision {
    let scopes = Scopes { policy, rule, limits: &PlanLimits::NONE, attempt, unit: None };
    if let Some(refused) = barred(&scopes, now, purses) {
        return refused;
    }
    let charged = scopes.charge(now, 1, purses);
    if !charged.is_full() {
        return passed(&scopes);
    }
    if charged.host.is_full() {
        return Decision::refused(Reason::limit(Level::Host as u32, None, charged.host.day_full()));
    }

    // The hardest limit speaks, and of several the one of the greatest scope: a full day without a soft band hardens a
    // soft hour.
    let full = charged.greatest(scopes::note(Level::User as u32, rule.hour.band, rule.day.band, rule.on_soft));
    if full.is_hard() {
        return Decision::refused(Reason::limit(full.level(), None, full.hard_day()));
    }
    let which = full.which();
    let put_off = match full.shared() {
        None => {
            let bands = Both { hour: rule.hour.band, day: rule.day.band };
            purses.charge(&WindowKey::new(attempt.account, Lane::Deferred), now, bands, which, 1)
        }
        Some(shared) => purses.put_off(shared, full.link(), which, now),
    };
    if put_off.is_full() {
        return Decision::refused(Reason::limit(full.level(), None, put_off.day_full()));
    }
    // What stays on the host is at the local MTA already; and an exempt account, held here by a strict limit, may be the
    // MTA's own, which would be led to itself.
    let soft = if scopes.leaves() && !scopes.is_exempt() && full.on_soft() == OnSoft::Redirect as u32 {
        Verdict::Redirected
    } else {
        Verdict::Deferred
    };
    Decision { verdict: soft, why: Reason::limit(full.level(), None, which & spans::HOUR == 0) }
}

/// Whether messages and recipients of an attempt's account are held to anything: its plan, what it shares (the flags of its
/// chains together), or the host's budget.
#[inline(always)]
pub fn units_are_limited(
    policy: &Policy,
    rule: &Ruling<'_>,
    limits: &PlanLimits,
    attempt: &Attempt,
    shared: u32,
) -> bool {
    let scopes = Scopes { policy, rule, limits, attempt, unit: None };
    let (leaves, exempt) = (scopes.leaves(), scopes.is_exempt());
    let by_plan = scopes.is_held() && (limits.messages.is_set() || limits.recipients.is_set());
    let by_host = leaves
        && !rule.has(rule_flag::NOT_THE_HOSTS)
        && (!exempt || policy.strict != 0)
        && (policy.host_messages.is_set() || policy.host_recipients.is_set());
    let by_others = scopes.shares()
        && shared & chain_flag::UNITS != 0
        && (leaves || shared & chain_flag::LOCAL_UNITS != 0)
        && (!exempt || shared & chain_flag::STRICT_UNITS != 0);
    by_plan || by_host || by_others
}

/// Decides `n` messages or recipients of an open session, and charges all of them or none. There is no soft band here:
/// in the middle of a conversation nobody can be put off.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the facts of one decision; a struct of them costs the kernel's stack")]
pub fn decide_units<P: Purses>(
    policy: &Policy,
    rule: &Ruling<'_>,
    limits: &PlanLimits,
    attempt: &Attempt,
    unit: Unit,
    n: u32,
    now: u64,
    purses: &mut P,
) -> Decision {
    let scopes = Scopes { policy, rule, limits, attempt, unit: Some(unit) };
    // A policy may have turned against the account since the connection was let out.
    if let Some(refused) = barred(&scopes, now, purses) {
        return refused;
    }
    let charged = scopes.charge(now, n, purses);
    if charged.host.is_full() {
        return Decision::refused(Reason::limit(Level::Host as u32, Some(unit), charged.host.day_full()));
    }
    if charged.is_full() {
        let full = charged.greatest(scopes::note(Level::User as u32, 0, 0, 0));
        return Decision::refused(Reason::limit(full.level(), Some(unit), full.hard_day()));
    }
    passed(&scopes)
}

/// What stops an attempt before anything is charged.
#[inline(always)]
fn barred<P: Purses>(scopes: &Scopes<'_>, now: u64, purses: &mut P) -> Option<Decision> {
    let rule = scopes.rule;
    if rule.action == Action::Deny as u8 {
        return Some(Decision::new(Verdict::Refused, reason_of(rule, Reason::DenyUser)));
    }
    if scopes.leaves() && rule.action == Action::Closed as u8 {
        return Some(Decision::new(Verdict::Refused, reason_of(rule, Reason::DenyPlan)));
    }
    if scopes.is_held() && rule.has(rule_flag::BRAKE) && purses.is_braked(scopes.attempt.account, rule.plan, now) {
        return Some(Decision::new(Verdict::Refused, Reason::FailedShare));
    }
    None
}

/// One that was charged.
#[inline(always)]
fn passed(scopes: &Scopes<'_>) -> Decision {
    let exempt = scopes.is_exempt();
    let reason = if !scopes.leaves() && !scopes.rule.has(rule_flag::LOCAL) {
        Reason::LocalRoute
    } else if exempt {
        reason_of(scopes.rule, Reason::Exempt)
    } else {
        Reason::WithinLimits
    };
    Decision::new(if exempt { Verdict::Exempt } else { Verdict::Allowed }, reason)
}

#[cfg(test)]
mod tests;
