//! The same decision as the kernel's, taken on a copy of the windows and told in words.

use std::collections::HashMap;

use serde::Serialize;
use smtp_common::{
    connection::{Account, Attempt},
    counter::{Reason, Verdict},
    decide::{Decision, Purses, decide},
    rule::{Limit, Origin, Policy, Rule},
    window::{Both, Lane, Receipt, Span, WindowKey, Windows},
};

/// A copy of the windows that matter. Charging it charges nobody.
#[derive(Default)]
pub struct Copy(pub HashMap<WindowKey, Windows>);

impl Purses for Copy {
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32) -> Receipt {
        self.0.entry(*key).or_default().charge(Both::slots(now), limits, which)
    }

    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32) {
        self.0.entry(*key).or_default().uncharge(receipt, which);
    }
}

/// One window that applies, and what is left in it.
#[derive(Debug, Serialize)]
pub struct Left {
    pub scope: &'static str,
    pub window: &'static str,
    pub limit: Option<u32>,
    pub used: u64,
    pub left: Option<u64>,
    /// Attempts of the soft band still to be deferred before they are refused.
    pub soft_left: Option<u64>,
    /// Seconds until one more is admitted, 0 when it is now.
    pub free_in_seconds: u64,
}

/// What the next connection of an account would meet.
pub fn explain(policy: &Policy, rule: &Rule, attempt: &Attempt, now: u64, windows: &mut Copy) -> (Decision, Vec<Left>) {
    let mut left = Vec::new();
    let own = |span| rule.limit_in_force(span);
    let host = |span| Some(Limit { limit: policy.host_limit(span), band: 0 }).filter(Limit::is_set);
    for (scope, account) in [("account", attempt.account), ("host", Account::HOST)] {
        for span in Span::ALL {
            let held_to = if account == Account::HOST { host(span) } else { own(span) };
            let Some(Limit { limit, band }) = held_to else { continue };
            let window = |lane| *windows.0.get(&WindowKey::new(account, lane)).copied().unwrap_or_default().of(span);
            let used = |lane| window(lane).used(span.slot(now));
            let admitted = used(Lane::Admitted);
            left.push(Left {
                scope,
                window: span.name(),
                limit: Some(limit),
                used: admitted,
                left: Some((limit as u64).saturating_sub(admitted)),
                soft_left: (band > 0).then(|| (band as u64).saturating_sub(used(Lane::Deferred))),
                free_in_seconds: window(Lane::Admitted).free_in(span, now, limit).div_ceil(1_000_000_000),
            });
        }
    }
    (decide(policy, rule, attempt, now, windows), left)
}

/// Which line of the configuration speaks.
pub fn origin(rule: &Rule) -> &'static str {
    match rule.origin {
        o if o == Origin::Default as u8 => "[default] plan",
        o if o == Origin::AllowUser as u8 => "[allow] users",
        o if o == Origin::AllowGroup as u8 => "[allow] groups",
        o if o == Origin::DenyUser as u8 => "[deny] users",
        o if o == Origin::RuleUser as u8 => "a [[rule]] for this user",
        o if o == Origin::RuleGroup as u8 => "a [[rule]] for a group of this user",
        o if o == Origin::Containers as u8 => "[containers] plan",
        o if o == Origin::KernelThreads as u8 => "[default] plan, for kernel threads",
        _ => "an unknown line",
    }
}

/// What a verdict means to whoever connects.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "would be allowed",
        Verdict::Exempt => "would be allowed: this account has no limits",
        Verdict::Deferred => "would be deferred (connection refused, so that a queueing client tries again)",
        Verdict::Redirected => "would be redirected to the local MTA",
        Verdict::Refused => "would be refused (operation not permitted)",
        Verdict::WouldDefer => "would pass, because mode = \"observe\"; enforce would defer it",
        Verdict::WouldRedirect => "would pass, because mode = \"observe\"; enforce would redirect it",
        Verdict::WouldRefuse => "would pass, because mode = \"observe\"; enforce would refuse it",
    }
}

pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::WithinLimits => "it is within every limit",
        Reason::LocalRoute => "it goes to the local MTA, which limits do not count",
        Reason::Exempt => "[allow] names it",
        Reason::DenyUser => "[deny] names it, and denied users are refused everywhere",
        Reason::DenyPlan => "its plan is \"deny\": only the MTA may send",
        Reason::AccountHour => "the account has used its hour up",
        Reason::AccountDay => "the account has used its day up",
        Reason::HostHour => "the whole host has used its hour up",
        Reason::HostDay => "the whole host has used its day up",
    }
}
