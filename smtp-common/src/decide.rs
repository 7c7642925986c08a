//! The decision: what becomes of one attempt, and what it is charged to.
//!
//! Two scopes apply to a connection, the account and the host, each with an hour and a day, and only one scope
//! can be locked at a time. So a charge is a reservation that is taken back when the other scope is full. Taking
//! back can only make room, so no interleaving admits more than a window's limit; a competitor that meets a
//! reservation about to be returned may be told "full" for that instant.

use crate::{
    connection::{Account, Attempt, Route},
    counter::{Reason, Verdict},
    rule::{Action, OnSoft, Policy, Rule},
    window::{Both, Lane, Receipt, UNLIMITED, WindowKey, spans},
};

/// Where windows are kept. Each call is atomic by itself; nothing is held between calls.
pub trait Purses {
    /// Adds one to the windows in `which` (bits of [`spans`]) at `now` (nanoseconds of the boot clock), unless one of
    /// them holds its limit already: then to none.
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32) -> Receipt;

    /// Takes back what a receipt of a charge with the same key and `which` stands for.
    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32);
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
    if attempt.route as u8 == Route::Local as u8 {
        return Decision::new(passed, Reason::LocalRoute);
    }
    if rule.action == Action::Closed as u8 {
        return Decision::new(Verdict::Refused, Reason::DenyPlan);
    }

    // An account has windows only where it has a limit. The host always has, so that its usage is known.
    let limited = !exempt && (rule.hour.is_set() || rule.day.is_set());
    let own = WindowKey::new(attempt.account, Lane::Admitted);
    let charged = if limited {
        purses.charge(&own, now, Both { hour: rule.hour.limit, day: rule.day.limit }, spans::BOTH)
    } else {
        Receipt(0)
    };
    // Tried even when the account is full: the host's limit, which has no soft band, must be able to speak.
    let host = WindowKey::new(Account::HOST, Lane::Admitted);
    let budget = if !exempt || policy.strict != 0 {
        Both { hour: policy.host_hour, day: policy.host_day }
    } else {
        Both { hour: UNLIMITED, day: UNLIMITED }
    };
    let charged_to_host = purses.charge(&host, now, budget, spans::BOTH);
    if !charged.is_full() && !charged_to_host.is_full() {
        return Decision::new(passed, if exempt { Reason::Exempt } else { Reason::WithinLimits });
    }
    if charged_to_host.is_full() {
        if limited && !charged.is_full() {
            purses.uncharge(&own, charged, spans::BOTH);
        }
        let reason = if charged_to_host.day_full() { Reason::HostDay } else { Reason::HostHour };
        return Decision::new(Verdict::Refused, reason);
    }
    purses.uncharge(&host, charged_to_host, spans::BOTH);

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
    let put_off = purses.charge(&WindowKey::new(attempt.account, Lane::Deferred), now, bands, which);
    if put_off.day_full() {
        return Decision::new(Verdict::Refused, Reason::AccountDay);
    }
    if put_off.hour_full() {
        return Decision::new(Verdict::Refused, Reason::AccountHour);
    }
    let soft = if rule.on_soft == OnSoft::Redirect as u8 { Verdict::Redirected } else { Verdict::Deferred };
    Decision::new(soft, if charged.hour_full() { Reason::AccountHour } else { Reason::AccountDay })
}

#[cfg(test)]
mod tests;
