//! The decision: what becomes of one attempt, and what it is charged to.
//!
//! Several windows apply to a connection (the account's hour and day, the host's hour and day) and only
//! one can be locked at a time, so a charge is a reservation that is taken back when a later window is
//! full. Taking back can only make room, so no interleaving admits more than a window's limit; a
//! competitor that meets a reservation about to be returned may be told "full" for that instant.

use crate::{
    connection::{Account, Attempt, Route},
    counter::{Reason, Verdict},
    rule::{Action, OnSoft, Policy, Rule},
    window::{Lane, Span, UNLIMITED, WindowKey},
};

/// Where windows are kept. Each call is atomic by itself; nothing is held between calls.
pub trait Windows {
    /// Adds one to the window at `now` (nanoseconds of the boot clock) unless it holds `limit` already.
    /// Returns a receipt for [`Self::uncharge`], or [`FULL`].
    fn charge(&mut self, key: &WindowKey, now: u64, limit: u32) -> u64;

    /// Takes back what `receipt` stands for.
    fn uncharge(&mut self, key: &WindowKey, receipt: u64);
}

/// What [`Windows::charge`] answers when the window is full. No slot number comes near it.
pub const FULL: u64 = u64::MAX;

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

/// One window that may apply to the attempt.
#[derive(Clone, Copy)]
struct Scope {
    account: Account,
    span: Span,
    limit: u32,
    band: u32,
    reason: Reason,
    /// A window is kept only where a limit is set; the host's are kept always, so that its usage is known.
    applies: bool,
}

impl Scope {
    #[inline(always)]
    const fn key(&self, lane: Lane) -> WindowKey {
        WindowKey::new(self.account, self.span, lane)
    }

    #[inline(always)]
    fn is_soft(&self) -> bool {
        self.band > 0
    }
}

/// A window that does not apply, or was not charged: nothing to take back.
const NOTHING: u64 = FULL - 1;

#[inline(always)]
fn charge<W: Windows>(windows: &mut W, scope: &Scope, now: u64) -> u64 {
    if scope.applies { windows.charge(&scope.key(Lane::Admitted), now, scope.limit) } else { NOTHING }
}

#[inline(always)]
fn uncharge<W: Windows>(windows: &mut W, scope: &Scope, lane: Lane, receipt: u64) {
    if receipt < NOTHING {
        windows.uncharge(&scope.key(lane), receipt);
    }
}

/// Decides one attempt under `rule` at `now` (nanoseconds of the boot clock) and charges it: an admitted
/// attempt to every window that applies, a deferred one to the soft band of every window that is full, a
/// refused one to none.
///
/// The verdict is the one of enforce mode; [`Verdict::observed`] turns it into the other.
#[inline(always)]
pub fn decide<W: Windows>(policy: &Policy, rule: &Rule, attempt: &Attempt, now: u64, windows: &mut W) -> Decision {
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

    let held_to_host = !exempt || policy.strict != 0;
    let own = |span: Span, reason: Reason| {
        let limit = rule.limit(span);
        let applies = !exempt && limit.is_set();
        Scope { account: attempt.account, span, limit: limit.limit, band: limit.band, reason, applies }
    };
    let host = |span: Span, reason: Reason| {
        let limit = if held_to_host { policy.host_limit(span) } else { UNLIMITED };
        Scope { account: Account::HOST, span, limit, band: 0, reason, applies: true }
    };
    let account_hour = own(Span::Hour, Reason::AccountHour);
    let account_day = own(Span::Day, Reason::AccountDay);
    let host_hour = host(Span::Hour, Reason::HostHour);
    let host_day = host(Span::Day, Reason::HostDay);

    // Every window is tried even after one was full: a full day must be able to harden a soft hour.
    let hour = charge(windows, &account_hour, now);
    let day = charge(windows, &account_day, now);
    let machine_hour = charge(windows, &host_hour, now);
    let machine_day = charge(windows, &host_day, now);
    if hour != FULL && day != FULL && machine_hour != FULL && machine_day != FULL {
        let reason = if exempt { Reason::Exempt } else { Reason::WithinLimits };
        return Decision::new(passed, reason);
    }
    uncharge(windows, &account_hour, Lane::Admitted, hour);
    uncharge(windows, &account_day, Lane::Admitted, day);
    uncharge(windows, &host_hour, Lane::Admitted, machine_hour);
    uncharge(windows, &host_day, Lane::Admitted, machine_day);

    // The hardest limit speaks: the host's has no soft band, an account's may have used its up.
    if machine_day == FULL {
        return Decision::new(Verdict::Refused, host_day.reason);
    }
    if machine_hour == FULL {
        return Decision::new(Verdict::Refused, host_hour.reason);
    }
    if day == FULL && !account_day.is_soft() {
        return Decision::new(Verdict::Refused, account_day.reason);
    }
    if hour == FULL && !account_hour.is_soft() {
        return Decision::new(Verdict::Refused, account_hour.reason);
    }
    let mut day_put_off = NOTHING;
    if day == FULL {
        day_put_off = windows.charge(&account_day.key(Lane::Deferred), now, account_day.band);
        if day_put_off == FULL {
            return Decision::new(Verdict::Refused, account_day.reason);
        }
    }
    if hour == FULL {
        let put_off = windows.charge(&account_hour.key(Lane::Deferred), now, account_hour.band);
        if put_off == FULL {
            uncharge(windows, &account_day, Lane::Deferred, day_put_off);
            return Decision::new(Verdict::Refused, account_hour.reason);
        }
    }
    let soft = if rule.on_soft == OnSoft::Redirect as u8 { Verdict::Redirected } else { Verdict::Deferred };
    Decision::new(soft, if hour == FULL { account_hour.reason } else { account_day.reason })
}

#[cfg(test)]
mod tests;
