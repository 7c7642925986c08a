//! The decision: what becomes of one attempt, and what it is charged to.
//!
//! Two scopes apply to a connection, the account and the host, each with an hour and a day, and only one scope
//! can be locked at a time. So a charge is a reservation that is taken back when the other scope is full. Taking
//! back can only make room, so no interleaving admits more than a window's limit; a competitor that meets a
//! reservation about to be returned may be told "full" for that instant.

use crate::{
    connection::{Account, Attempt, Route},
    counter::{Reason, Verdict},
    rule::{Action, OnSoft, PlanLimits, Policy, Rule, rule_flag},
    tally::Unit,
    window::{Both, Lane, Receipt, WindowKey, spans},
};

/// Where windows are kept. Each call is atomic by itself; nothing is held between calls.
pub trait Purses {
    /// Adds `n` to the windows in `which` (bits of [`spans`]) at `now` (nanoseconds of the boot clock), unless one of
    /// them has no room for so many: then to none.
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32, n: u32) -> Receipt;

    /// Takes back what a receipt of a charge with the same key, `which` and `n` stands for.
    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32, n: u32);

    /// Whether the failure brake of an account's plan holds it now.
    fn is_braked(&mut self, account: Account, rule: &Rule, now: u64) -> bool;
}

/// Verdict and the limit, if any, that brought it about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Decision {
    pub verdict: Verdict,
    pub reason: Reason,
}

impl Decision {
    #[inline(always)]
    const fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason }
    }
}

/// What the account and the host are charged to, and what each has room for.
struct Scopes {
    own: WindowKey,
    /// `None`: the account is held to nothing.
    own_limits: Option<Both>,
    host: WindowKey,
    /// `None`: not the host's business.
    budget: Option<Both>,
}

/// What both were asked and answered.
struct Charged {
    own: Receipt,
    host: Receipt,
}

impl Scopes {
    #[inline(always)]
    fn new(
        policy: &Policy,
        rule: &Rule,
        attempt: &Attempt,
        lane: Lane,
        own_limits: Option<Both>,
        budget: Both,
    ) -> Self {
        let exempt = rule.action == Action::Exempt as u8;
        // The host's windows always count, so that its usage is known. What goes to the local MTA is charged to the host
        // when the MTA sends it.
        let budget = if exempt && policy.strict == 0 { Both::UNLIMITED } else { budget };
        let counts = attempt.route as u8 == Route::Remote as u8 && !rule.has(rule_flag::NOT_THE_HOSTS);
        Self {
            own: WindowKey::new(attempt.account, lane),
            own_limits,
            host: WindowKey::new(Account::HOST, lane),
            budget: if counts { Some(budget) } else { None },
        }
    }

    /// Charges both, or says which were full and charges none.
    #[inline(always)]
    fn charge<P: Purses>(&self, now: u64, n: u32, purses: &mut P) -> Charged {
        let own = match self.own_limits {
            Some(limits) => purses.charge(&self.own, now, limits, spans::BOTH, n),
            None => Receipt(0),
        };
        // Tried even when the account is full: the host's limit, which has no soft band, must be able to speak.
        let host = match self.budget {
            Some(budget) => purses.charge(&self.host, now, budget, spans::BOTH, n),
            None => Receipt(0),
        };
        if host.is_full() && self.own_limits.is_some() && !own.is_full() {
            purses.uncharge(&self.own, own, spans::BOTH, n);
        }
        if own.is_full() && self.budget.is_some() && !host.is_full() {
            purses.uncharge(&self.host, host, spans::BOTH, n);
        }
        Charged { own, host }
    }
}

/// Decides one attempt under `rule` at `now` (nanoseconds of the boot clock) and charges it: an admitted
/// attempt to every window that applies, a deferred one to the soft band of every window that is full, a
/// refused one to none.
///
/// The verdict is the one of enforce mode; [`Verdict::observed`] turns it into the other.
#[inline(always)]
pub fn decide<P: Purses>(policy: &Policy, rule: &Rule, attempt: &Attempt, now: u64, purses: &mut P) -> Decision {
    if rule.action == Action::Deny as u8 {
        return Decision::new(Verdict::Refused, Reason::DenyUser);
    }
    let exempt = rule.action == Action::Exempt as u8;
    let passed = if exempt { Verdict::Exempt } else { Verdict::Allowed };
    let leaves = attempt.route as u8 == Route::Remote as u8;
    if !leaves && (exempt || !rule.has(rule_flag::LOCAL)) {
        return Decision::new(passed, Reason::LocalRoute);
    }
    if rule.action == Action::Closed as u8 {
        return Decision::new(Verdict::Refused, Reason::DenyPlan);
    }
    if !exempt && rule.has(rule_flag::BRAKE) && purses.is_braked(attempt.account, rule, now) {
        return Decision::new(Verdict::Refused, Reason::FailedShare);
    }

    // An account has windows only where it has a limit.
    let limited = !exempt && (rule.hour.is_set() || rule.day.is_set());
    let limits = if limited { Some(Both { hour: rule.hour.limit, day: rule.day.limit }) } else { None };
    let budget = Both { hour: policy.host_hour, day: policy.host_day };
    let charged = Scopes::new(policy, rule, attempt, Lane::Admitted, limits, budget).charge(now, 1, purses);
    if charged.host.is_full() {
        let reason = if charged.host.day_full() { Reason::HostDay } else { Reason::HostHour };
        return Decision::new(Verdict::Refused, reason);
    }
    let charged = charged.own;
    if !charged.is_full() {
        return Decision::new(passed, if exempt { Reason::Exempt } else { Reason::WithinLimits });
    }

    // The hardest limit speaks: a full day without a soft band hardens a soft hour.
    if charged.day_full() && rule.day.band == 0 {
        return Decision::new(Verdict::Refused, Reason::AccountDay);
    }
    if charged.hour_full() && rule.hour.band == 0 {
        return Decision::new(Verdict::Refused, Reason::AccountHour);
    }
    let hour = if charged.hour_full() { spans::HOUR } else { 0 };
    let which = hour | if charged.day_full() { spans::DAY } else { 0 };
    let bands = Both { hour: rule.hour.band, day: rule.day.band };
    let put_off = purses.charge(&WindowKey::new(attempt.account, Lane::Deferred), now, bands, which, 1);
    if put_off.day_full() {
        return Decision::new(Verdict::Refused, Reason::AccountDay);
    }
    if put_off.hour_full() {
        return Decision::new(Verdict::Refused, Reason::AccountHour);
    }
    let soft = if rule.on_soft == OnSoft::Redirect as u8 { Verdict::Redirected } else { Verdict::Deferred };
    Decision::new(soft, if charged.hour_full() { Reason::AccountHour } else { Reason::AccountDay })
}

/// Whether messages and recipients of an attempt's account are held to anything: its plan or the host's budget.
#[inline(always)]
pub fn units_are_limited(policy: &Policy, rule: &Rule, limits: &PlanLimits, attempt: &Attempt) -> bool {
    let leaves = attempt.route as u8 == Route::Remote as u8;
    let exempt = rule.action == Action::Exempt as u8;
    let by_plan =
        !exempt && (leaves || rule.has(rule_flag::LOCAL)) && (limits.messages.is_set() || limits.recipients.is_set());
    let by_host = leaves
        && !rule.has(rule_flag::NOT_THE_HOSTS)
        && (!exempt || policy.strict != 0)
        && (policy.host_messages.is_set() || policy.host_recipients.is_set());
    by_plan || by_host
}

/// Decides `n` messages or recipients of an open session, and charges all of them or none. There is no soft band here:
/// in the middle of a conversation nobody can be put off.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the facts of one decision; a struct of them costs the kernel's stack")]
pub fn decide_units<P: Purses>(
    policy: &Policy,
    rule: &Rule,
    limits: &PlanLimits,
    attempt: &Attempt,
    unit: Unit,
    n: u32,
    now: u64,
    purses: &mut P,
) -> Decision {
    let exempt = rule.action == Action::Exempt as u8;
    let passed = if exempt { Verdict::Exempt } else { Verdict::Allowed };
    let leaves = attempt.route as u8 == Route::Remote as u8;
    // A policy may have turned against the account since the connection was let out.
    if rule.action == Action::Deny as u8 {
        return Decision::new(Verdict::Refused, Reason::DenyUser);
    }
    if leaves && rule.action == Action::Closed as u8 {
        return Decision::new(Verdict::Refused, Reason::DenyPlan);
    }
    let held = !exempt && (leaves || rule.has(rule_flag::LOCAL));
    if held && rule.has(rule_flag::BRAKE) && purses.is_braked(attempt.account, rule, now) {
        return Decision::new(Verdict::Refused, Reason::FailedShare);
    }
    let own = limits.of(unit);
    let own = if held && own.is_set() { Some(own) } else { None };
    let charged =
        Scopes::new(policy, rule, attempt, Lane::of(unit), own, policy.host_units(unit)).charge(now, n, purses);
    if charged.host.is_full() {
        return Decision::new(Verdict::Refused, host_reason(unit, charged.host));
    }
    if charged.own.is_full() {
        return Decision::new(Verdict::Refused, own_reason(unit, charged.own));
    }
    let reason = match (exempt, leaves) {
        (true, _) => Reason::Exempt,
        (false, false) if !rule.has(rule_flag::LOCAL) => Reason::LocalRoute,
        _ => Reason::WithinLimits,
    };
    Decision::new(passed, reason)
}

#[inline(always)]
fn own_reason(unit: Unit, full: Receipt) -> Reason {
    match (unit, full.day_full()) {
        (Unit::Message, false) => Reason::MessagesHour,
        (Unit::Message, true) => Reason::MessagesDay,
        (Unit::Recipient, false) => Reason::RecipientsHour,
        (Unit::Recipient, true) => Reason::RecipientsDay,
    }
}

#[inline(always)]
fn host_reason(unit: Unit, full: Receipt) -> Reason {
    match (unit, full.day_full()) {
        (Unit::Message, false) => Reason::HostMessagesHour,
        (Unit::Message, true) => Reason::HostMessagesDay,
        (Unit::Recipient, false) => Reason::HostRecipientsHour,
        (Unit::Recipient, true) => Reason::HostRecipientsDay,
    }
}

#[cfg(test)]
mod tests;
