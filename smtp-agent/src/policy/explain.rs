//! The same decision as the kernel's, taken on a copy of the windows and told in words.

use std::collections::HashMap;

use serde::Serialize;
use smtp_common::{
    connection::{Account, Attempt, Route},
    counter::{Reason, Verdict},
    decide::{Ask, Decision, Purses, Shared, charge_chain, decide, decide_units, put_off, uncharge_chain},
    level::{Level, Purse, purse_flag},
    names::Tripped,
    rule::{Action, BRAKE_STAYS, Limit, Origin, PlanLimits, Policy, Rule, rule_flag},
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
    /// When the account's failure brake was tripped ([`Tripped::at`]).
    pub tripped: Option<u64>,
    /// What the account shares with others, and what its cgroup does, with what each limit is called.
    pub shared: [Vec<(Purse, String)>; 2],
}

impl Copy {
    /// What a lane of a scope is charged with.
    fn of(&self, scope: Account, lane: Lane) -> Windows {
        self.windows.get(&WindowKey::new(scope, lane)).copied().unwrap_or_default()
    }

    /// Failed messages in the hour that ends at `now`, and all that had an outcome.
    pub fn failed(&self, account: Account, now: u64) -> (u64, u64) {
        let used = |lane| self.of(account, lane).hour.used(Span::Hour.slot(now));
        (used(Lane::Failed), used(Lane::Outcomes))
    }

    fn purses(&self, shared: Shared) -> Vec<Purse> {
        self.shared[shared as usize].iter().map(|(purse, _)| *purse).collect()
    }

    /// Whether the failure brake holds the account.
    pub fn brake_holds(&self, account: Account, now: u64) -> bool {
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

    fn is_braked(&mut self, account: Account, _: u16, now: u64) -> bool {
        self.brake_holds(account, now)
    }

    fn share(&mut self, shared: Shared, ask: &Ask) -> Receipt {
        let purses = self.purses(shared);
        charge_chain(|link| purses.get(link), ask, self)
    }

    fn unshare(&mut self, shared: Shared, receipt: Receipt, ask: &Ask) {
        let purses = self.purses(shared);
        uncharge_chain(|link| purses.get(link), receipt, ask, self);
    }

    fn put_off(&mut self, shared: Shared, link: u32, which: u32, now: u64) -> Receipt {
        match self.purses(shared).get(link as usize) {
            Some(purse) => put_off(purse, which, now, self),
            None => Receipt::FULL,
        }
    }
}

/// One window that applies, and what is left in it.
#[derive(Debug, Serialize)]
pub struct Left {
    pub scope: &'static str,
    /// Whose limit it is, where several share it.
    pub name: Option<String>,
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

    /// What becomes of it, which is charged to the copy.
    pub fn decide(&self, copy: &mut Copy) -> Decision {
        let Self { policy, rule, attempt, unit, now } = *self;
        let shut = rule.action == Action::Deny as u8 || (rule.action == Action::Closed as u8 && self.leaves());
        match unit {
            // No conversation comes about in which the kernel would be asked.
            Some(unit) if !shut => {
                let limits = copy.limits.unwrap_or(PlanLimits::NONE);
                decide_units(policy, &rule.into(), &limits, attempt, unit, 1, now, copy)
            }
            _ => decide(policy, &rule.into(), attempt, now, copy),
        }
    }

    fn leaves(&self) -> bool {
        self.attempt.route == Route::Remote
    }

    /// Whether the account is held to the limits of its plan on this route.
    fn is_held(&self) -> bool {
        self.rule.action == Action::Limited as u8 && (self.leaves() || self.rule.has(rule_flag::LOCAL))
    }

    /// Every limit that applies on this route: the account's own, then those it shares, the host's last.
    fn left(&self, copy: &Copy) -> Vec<Left> {
        let mut left = Vec::new();
        for unit in [None, Some(Unit::Message), Some(Unit::Recipient)] {
            let mut scopes: Vec<Scope<'_>> = Vec::new();
            if self.leaves() && !self.rule.has(rule_flag::NOT_THE_HOSTS) {
                let limit = |span| match unit {
                    None => whole(self.policy.host_limit(span)),
                    Some(unit) => whole(self.policy.host_units(unit).of(span)),
                };
                let limits = [limit(Span::Hour), limit(Span::Day)];
                scopes.push(Scope { level: Level::Host, name: None, account: Account::HOST, limits });
            }
            for (purse, name) in copy.shared.iter().flatten().filter(|(purse, _)| self.meets(purse)) {
                let limits = match unit {
                    None => [purse.hour, purse.day],
                    unit => [whole(purse.of(unit).hour), whole(purse.of(unit).day)],
                };
                let level = Level::ALL.into_iter().find(|level| *level as u8 == purse.level).unwrap_or(Level::Cgroup);
                scopes.push(Scope { level, name: Some(name), account: purse.scope, limits });
            }
            if self.is_held() {
                let limits = match unit {
                    None => [self.rule.hour, self.rule.day],
                    Some(unit) => {
                        let both = copy.limits.unwrap_or(PlanLimits::NONE).of(unit);
                        [whole(both.hour), whole(both.day)]
                    }
                };
                scopes.push(Scope { level: Level::User, name: None, account: self.attempt.account, limits });
            }
            scopes.sort_by_key(|scope| (scope.level != Level::User, scope.level));
            for scope in &scopes {
                for (span, limit) in Span::ALL.into_iter().zip(scope.limits).filter(|(_, limit)| limit.is_set()) {
                    left.push(self.one_left(copy, scope, unit, span, limit));
                }
            }
        }
        left
    }

    /// Whether a shared limit holds for the account here.
    fn meets(&self, purse: &Purse) -> bool {
        let exempt = self.rule.action == Action::Exempt as u8;
        let named = [Origin::AllowUser as u8, Origin::AllowGroup as u8].contains(&self.rule.origin);
        (self.leaves() || purse.flags & purse_flag::LOCAL != 0)
            && (!exempt || named && purse.flags & purse_flag::STRICT != 0)
    }

    fn one_left(
        &self,
        copy: &Copy,
        scope: &Scope<'_>,
        unit: Option<Unit>,
        span: Span,
        Limit { limit, band }: Limit,
    ) -> Left {
        let slot = span.slot(self.now);
        let windows = copy.of(scope.account, unit.map_or(Lane::Admitted, Lane::of));
        let used = windows.of(span).used(slot);
        let deferred = || copy.of(scope.account, Lane::Deferred).of(span).used(slot);
        Left {
            scope: scope.level.name(),
            name: scope.name.map(str::to_owned),
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
            tripped_seconds_ago: tripped.map(|then| Tripped::ago(then, now) / SECOND),
            lapses_in_seconds: tripped.map(|then| (lapse(copy, &limits, account, then, now) - now).div_ceil(SECOND)),
        })
    }
}

/// One holder of limits on a unit.
struct Scope<'a> {
    level: Level,
    name: Option<&'a str>,
    account: Account,
    /// Of the hour and of the day.
    limits: [Limit; 2],
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
        BRAKE_STAYS => u64::MAX,
        seconds => falls.min(now + (seconds as u64 * SECOND).saturating_sub(Tripped::ago(tripped, now))),
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
        o if o == Origin::RuleCgroup as u8 => "a [[rule]] for its cgroup",
        o if o == Origin::ByHand as u8 => "`smtp-agent allow` or `block`",
        o if o == Origin::Exception as u8 => "a [[rule]] for such connections",
        o if o == Origin::KernelThreads as u8 => "[default] plan, for kernel threads",
        _ => "an unknown line",
    }
}

/// What a verdict means to whoever connects (`unit` is `None`) or sends.
pub fn verdict(verdict: Verdict, unit: Option<Unit>) -> &'static str {
    match verdict {
        Verdict::Refused if unit.is_some() => "would be refused: the connection is ended (connection aborted)",
        Verdict::Allowed => "would be allowed",
        Verdict::Exempt => "would be allowed: no limit holds for it",
        Verdict::Deferred => "would be deferred (connection refused, so that a queueing client tries again)",
        Verdict::Redirected => "would be redirected to the local MTA",
        Verdict::Refused => "would be refused (operation not permitted)",
        Verdict::WouldDefer => "would pass, because mode = \"observe\"; enforce would defer it",
        Verdict::WouldRedirect => "would pass, because mode = \"observe\"; enforce would redirect it",
        Verdict::WouldRefuse => "would pass, because mode = \"observe\"; enforce would refuse it",
    }
}

pub fn reason(reason: Reason) -> String {
    if let (Some(level), Some(unit), Some(span)) = (reason.level(), reason.unit(), reason.span()) {
        let who = match level {
            Level::Cgroup => "the rule for its cgroup",
            Level::User => "the account",
            Level::Group => "a group it belongs to",
            Level::Plan => "everyone on its plan together",
            Level::Host => "the whole host",
        };
        let what = unit.map_or(String::new(), |unit| format!("{}s of the ", unit.name()));
        return format!("{who} has used its {what}{} up", span.name());
    }
    match reason {
        Reason::WithinLimits => "it is within every limit",
        Reason::LocalRoute => "it goes to the local MTA, which is limited only where a plan says local = true",
        Reason::Exempt => "[allow] names it",
        Reason::DenyUser => "[deny] names it, and denied users are refused everywhere",
        Reason::DenyPlan => "its plan is \"deny\": only the MTA may send",
        Reason::ByHand => "`smtp-agent allow` or `block` says so, which comes before everything else",
        Reason::Exception => "a [[rule]] for such connections says so",
        Reason::FailedShare => {
            "too large a share of its messages of the last hour has failed: the brake of its plan holds"
        }
        Reason::Unfollowed => "its messages are limited, and the kernel has no memory left to follow its session with",
        _ => "its messages are limited, and it spoke so that they could not be counted",
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
