//! The same decision as the kernel's, taken on a copy of the windows and told in words.

use std::collections::HashMap;

use serde::Serialize;
use smtp_common::{
    connection::{Account, Attempt, Route},
    counter::{Reason, Verdict},
    decide::{Decision, Purses, decide, decide_units},
    rule::{Action, Limit, Origin, PlanLimits, Policy, Rule, rule_flag},
    tally::Unit,
    window::{Both, Lane, Receipt, SLOTS, Span, WindowKey, Windows},
};

const SECOND: u64 = 1_000_000_000;

/// A copy of what matters of the gate's memory. Charging it charges nobody.
#[derive(Default)]
pub struct Copy {
    pub windows: HashMap<WindowKey, Windows>,
    /// What the account's plan limits besides connections.
    pub limits: Option<PlanLimits>,
    /// When the account's failure brake was tripped, in nanoseconds of the boot clock.
    pub tripped: Option<u64>,
}

impl Copy {
    /// What a lane of a scope is charged with.
    fn of(&self, scope: Account, lane: Lane) -> Windows {
        self.windows.get(&WindowKey::new(scope, lane)).copied().unwrap_or_default()
    }

    /// Failed messages in the hour that ends at `now`, and all that had an outcome.
    fn failed(&self, account: Account, now: u64) -> (u64, u64) {
        let used = |lane| self.of(account, lane).hour.used(Span::Hour.slot(now));
        (used(Lane::Failed), used(Lane::Outcomes))
    }

    fn brake_holds(&self, account: Account, now: u64) -> bool {
        let (Some(limits), Some(tripped)) = (&self.limits, self.tripped) else { return false };
        let (failed, of) = self.failed(account, now);
        limits.holds(tripped, now, failed, of)
    }
}

impl Purses for Copy {
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32, n: u32) -> Receipt {
        self.windows.entry(*key).or_default().charge(Both::slots(now), limits, which, n)
    }

    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32, n: u32) {
        self.windows.entry(*key).or_default().uncharge(receipt, which, n);
    }

    fn is_braked(&mut self, account: Account, _: &Rule, now: u64) -> bool {
        self.brake_holds(account, now)
    }
}

/// One window that applies, and what is left in it.
#[derive(Debug, Serialize)]
pub struct Left {
    pub scope: &'static str,
    pub unit: &'static str,
    pub window: &'static str,
    pub limit: Option<u32>,
    pub used: u64,
    pub left: Option<u64>,
    /// Attempts of the soft band still to be deferred before they are refused.
    pub soft_left: Option<u64>,
    /// Seconds until one more is admitted, 0 when it is now.
    pub free_in_seconds: u64,
}

/// The failure brake of the account's plan.
#[derive(Debug, Serialize)]
pub struct Brake {
    /// It was tripped, and holds the account now.
    pub holds: bool,
    /// Messages of the last hour that failed, and all that had an outcome.
    pub failed: u64,
    pub messages: u64,
    /// Their share; none where no message had an outcome.
    pub failed_percent: Option<f64>,
    pub max_failed_percent: u32,
    pub min_failed: u32,
    pub tripped_seconds_ago: Option<u64>,
    /// Seconds until it lets go, if nothing more is sent.
    pub lapses_in_seconds: Option<u64>,
}

/// What the next connection, message or recipient of an account would meet.
pub struct Answer {
    pub decision: Decision,
    pub left: Vec<Left>,
    pub brake: Option<Brake>,
}

/// One attempt under the policy in force; `unit` is `None` for a connection.
pub struct Question<'a> {
    pub policy: &'a Policy,
    pub rule: &'a Rule,
    pub attempt: &'a Attempt,
    pub unit: Option<Unit>,
    pub now: u64,
}

impl Question<'_> {
    pub fn answer(&self, copy: &mut Copy) -> Answer {
        let (left, brake) = (self.left(copy), self.brake(copy));
        Answer { decision: self.decide(copy), left, brake }
    }

    fn decide(&self, copy: &mut Copy) -> Decision {
        let Self { policy, rule, attempt, unit, now } = *self;
        let shut = rule.action == Action::Deny as u8 || (rule.action == Action::Closed as u8 && self.leaves());
        match unit {
            // No conversation comes about in which the kernel would be asked.
            Some(unit) if !shut => {
                let limits = copy.limits.unwrap_or(PlanLimits::NONE);
                decide_units(policy, rule, &limits, attempt, unit, 1, now, copy)
            }
            _ => decide(policy, rule, attempt, now, copy),
        }
    }

    fn leaves(&self) -> bool {
        self.attempt.route == Route::Remote
    }

    /// Whether the account is held to the limits of its plan on this route.
    fn is_held(&self) -> bool {
        self.rule.action == Action::Limited as u8 && (self.leaves() || self.rule.has(rule_flag::LOCAL))
    }

    /// Every limit that applies on this route.
    fn left(&self, copy: &Copy) -> Vec<Left> {
        let budget = self.leaves() && !self.rule.has(rule_flag::NOT_THE_HOSTS);
        let mut left = Vec::new();
        for unit in [None, Some(Unit::Message), Some(Unit::Recipient)] {
            for (scope, account) in [("account", self.attempt.account), ("host", Account::HOST)] {
                let applies = if account == Account::HOST { budget } else { self.is_held() };
                for span in Span::ALL.into_iter().filter(|_| applies) {
                    let limit = match (unit, account == Account::HOST) {
                        (None, false) => self.rule.limit(span),
                        (None, true) => whole(self.policy.host_limit(span)),
                        (Some(unit), false) => whole(copy.limits.unwrap_or(PlanLimits::NONE).of(unit).of(span)),
                        (Some(unit), true) => whole(self.policy.host_units(unit).of(span)),
                    };
                    if limit.is_set() {
                        left.push(self.one_left(copy, scope, account, unit, span, limit));
                    }
                }
            }
        }
        left
    }

    fn one_left(
        &self,
        copy: &Copy,
        scope: &'static str,
        account: Account,
        unit: Option<Unit>,
        span: Span,
        Limit { limit, band }: Limit,
    ) -> Left {
        let slot = span.slot(self.now);
        let windows = copy.of(account, unit.map_or(Lane::Admitted, Lane::of));
        let used = windows.of(span).used(slot);
        let deferred = || copy.of(account, Lane::Deferred).of(span).used(slot);
        Left {
            scope,
            unit: unit.map_or("connection", Unit::name),
            window: span.name(),
            limit: Some(limit),
            used,
            left: Some((limit as u64).saturating_sub(used)),
            soft_left: (band > 0).then(|| (band as u64).saturating_sub(deferred())),
            free_in_seconds: windows.of(span).free_in(span, self.now, limit).div_ceil(SECOND),
        }
    }

    fn brake(&self, copy: &Copy) -> Option<Brake> {
        let limits = copy.limits.filter(|_| self.is_held() && self.rule.has(rule_flag::BRAKE))?;
        let (account, now) = (self.attempt.account, self.now);
        let (failed, messages) = copy.failed(account, now);
        let holds = copy.brake_holds(account, now);
        let tripped = copy.tripped.filter(|_| holds);
        Some(Brake {
            holds,
            failed,
            messages,
            failed_percent: (messages > 0).then(|| (failed as f64 * 1000.0 / messages as f64).round() / 10.0),
            max_failed_percent: limits.max_failed_percent,
            min_failed: limits.min_failed,
            tripped_seconds_ago: tripped.map(|then| now.saturating_sub(then) / SECOND),
            lapses_in_seconds: tripped.map(|then| (lapse(copy, &limits, account, then, now) - now).div_ceil(SECOND)),
        })
    }
}

const fn whole(limit: u32) -> Limit {
    Limit { limit, band: 0 }
}

/// When a brake that holds lets go: at its time, or as soon as enough failures have left the hour.
fn lapse(copy: &Copy, limits: &PlanLimits, account: Account, tripped: u64, now: u64) -> u64 {
    let slot = Span::Hour.slot(now);
    // After so many slots the hour is empty.
    let falls = (slot + 1..=slot + SLOTS + 1)
        .map(|slot| slot * Span::Hour.slot_nanos())
        .find(|&then| !copy.brake_holds(account, then))
        .unwrap_or(u64::MAX);
    match limits.brake_seconds {
        0 => falls,
        seconds => falls.min(tripped + seconds as u64 * SECOND),
    }
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

/// What a verdict means to whoever connects (`unit` is `None`) or sends.
pub fn verdict(verdict: Verdict, unit: Option<Unit>) -> &'static str {
    match verdict {
        Verdict::Refused if unit.is_some() => "would be refused: the connection is ended (connection aborted)",
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
        Reason::LocalRoute => "it goes to the local MTA, which is limited only where a plan says local = true",
        Reason::Exempt => "[allow] names it",
        Reason::DenyUser => "[deny] names it, and denied users are refused everywhere",
        Reason::DenyPlan => "its plan is \"deny\": only the MTA may send",
        Reason::AccountHour => "the account has used its hour up",
        Reason::AccountDay => "the account has used its day up",
        Reason::HostHour => "the whole host has used its hour up",
        Reason::HostDay => "the whole host has used its day up",
        Reason::FailedShare => {
            "too large a share of its messages of the last hour has failed: the brake of its plan holds"
        }
        Reason::MessagesHour => "the account has used its messages of the hour up",
        Reason::MessagesDay => "the account has used its messages of the day up",
        Reason::RecipientsHour => "the account has used its recipients of the hour up",
        Reason::RecipientsDay => "the account has used its recipients of the day up",
        Reason::HostMessagesHour => "the whole host has used its messages of the hour up",
        Reason::HostMessagesDay => "the whole host has used its messages of the day up",
        Reason::HostRecipientsHour => "the whole host has used its recipients of the hour up",
        Reason::HostRecipientsDay => "the whole host has used its recipients of the day up",
        Reason::Unfollowed => "its messages are limited, and the kernel has no memory left to follow its session with",
        Reason::Evasive => "its messages are limited, and it spoke so that they could not be counted",
    }
}

#[cfg(test)]
mod tests;
