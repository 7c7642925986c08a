//! What an account and the host are held to, unit by unit, and how the failure brake stands: read once for metrics and
//! `status`.

use smtp_common::{
    connection::Account,
    level::{LINKS, Level, Purse},
    rule::{Action, PlanLimits, Policy, Rule, Rules, rule_flag},
    tally::Unit,
    window::{Both, Lane, Span, UNLIMITED},
};

use crate::{
    exit::Result,
    kernel::{maps::Maps, sys::boot_nanos},
};

/// The limits on one unit. [`UNLIMITED`] where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// The `unit` label.
    pub unit: &'static str,
    pub lane: Lane,
    pub limits: Both,
}

pub const CONNECTION: &str = "connection";

impl Budget {
    fn connections(limits: Both) -> Self {
        Self { unit: CONNECTION, lane: Lane::Admitted, limits }
    }

    fn units(unit: Unit, limits: Both) -> Self {
        Self { unit: unit.name(), lane: Lane::of(unit), limits }
    }

    /// The limit over a span, if there is one.
    pub fn limit(&self, span: Span) -> Option<u32> {
        Some(self.limits.of(span)).filter(|&limit| limit != UNLIMITED)
    }
}

/// What the host is held to.
pub fn of_host(policy: &Policy) -> [Budget; 3] {
    [
        Budget::connections(Both { hour: policy.host_hour, day: policy.host_day }),
        Budget::units(Unit::Message, policy.host_units(Unit::Message)),
        Budget::units(Unit::Recipient, policy.host_units(Unit::Recipient)),
    ]
}

/// What a limit is that several accounts share.
pub fn of_purse(purse: &Purse) -> [Budget; 3] {
    [
        Budget::connections(purse.of(None)),
        Budget::units(Unit::Message, purse.messages),
        Budget::units(Unit::Recipient, purse.recipients),
    ]
}

/// Whose limit it is.
pub fn level(purse: &Purse) -> Option<Level> {
    Level::ALL.into_iter().find(|level| *level as u8 == purse.level)
}

/// The purses that an account spends from by its rule, in the order of its chain.
pub fn purses_of(maps: &Maps, rule: &Rule) -> impl Iterator<Item = Purse> {
    let chain = Some(u32::from(rule.chain)).filter(|chain| *chain != 0).and_then(|chain| maps.chain(chain));
    let numbers = chain.map_or([0; LINKS], |chain| chain.purses).into_iter().filter(|number| *number != 0);
    numbers.filter_map(|number| maps.purse(number))
}

/// What the host is held to of what an account sends under this rule: mailing lists may be left out.
pub fn of_host_for(policy: &Policy, rule: &Rule) -> Option<[Budget; 3]> {
    (!rule.has(rule_flag::NOT_THE_HOSTS)).then(|| of_host(policy))
}

/// A limit that several accounts share.
pub struct Shared {
    /// `plan`, `group` or `cgroup`.
    pub level: &'static str,
    /// Name of the plan or group, the pattern of a rule, or the path of a cgroup that has a limit of its own by one.
    pub name: String,
    pub scope: Account,
    pub budgets: [Budget; 3],
}

/// Every limit that accounts share, by level and name.
pub fn shared(maps: &Maps) -> Result<Vec<Shared>> {
    let shared = |purse: Purse| Shared {
        level: level(&purse).map_or("", Level::name),
        name: maps.name(purse.scope).unwrap_or_else(|| format!("{:x}", purse.scope.id)),
        scope: purse.scope,
        budgets: of_purse(&purse),
    };
    let mut all: Vec<_> = maps.purses()?.into_iter().map(shared).collect();
    all.sort_by(|a, b| (a.level, &a.name).cmp(&(b.level, &b.name)));
    Ok(all)
}

/// What a rule with this plan holds an account to.
pub fn of_rule(rule: &Rule, plan: &PlanLimits) -> [Budget; 3] {
    let connections = |span| rule.limit_in_force(span).map_or(UNLIMITED, |limit| limit.limit);
    let units = |unit| if holds(rule, rule_flag::UNITS) { plan.of(unit) } else { Both::UNLIMITED };
    [
        Budget::connections(Both { hour: connections(Span::Hour), day: connections(Span::Day) }),
        Budget::units(Unit::Message, units(Unit::Message)),
        Budget::units(Unit::Recipient, units(Unit::Recipient)),
    ]
}

/// What the plan of a rule says besides connections.
pub fn plan(maps: &impl Rules, rule: &Rule) -> PlanLimits {
    let says_more = holds(rule, rule_flag::UNITS) || holds(rule, rule_flag::BRAKE);
    Some(rule.plan).filter(|_| says_more).and_then(|plan| maps.plan(plan)).map_or(PlanLimits::NONE, |plan| *plan)
}

/// Exempt and denied accounts are held to no plan.
fn holds(rule: &Rule, flag: u8) -> bool {
    rule.action == Action::Limited as u8 && rule.has(flag)
}

/// How the failure brake of an account stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Brake {
    /// Share of the last hour's messages that failed; `None` where none had an outcome.
    pub failed_percent: Option<f64>,
    /// It was tripped, and has not let go since.
    pub holds: bool,
}

impl Brake {
    fn new(plan: &PlanLimits, tripped: Option<u64>, now: u64, failed: u64, of: u64) -> Self {
        Self {
            failed_percent: (of > 0).then(|| failed as f64 * 100.0 / of as f64),
            holds: tripped.is_some_and(|at| plan.holds(at, now, failed, of)),
        }
    }
}

/// The brake of an account, if its plan has one.
pub fn brake(maps: &Maps, account: Account, rule: &Rule, plan: &PlanLimits) -> Result<Option<Brake>> {
    if !holds(rule, rule_flag::BRAKE) {
        return Ok(None);
    }
    let hour = |lane| maps.used(account, lane).map(|windows| windows.hour.total);
    let (failed, of) = (hour(Lane::Failed)?, hour(Lane::Outcomes)?);
    Ok(Some(Brake::new(plan, maps.tripped(account), boot_nanos(), failed, of)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_common::{
        level::{ByHand, Chain},
        rule::{Limit, Origin},
    };

    const PLAN: PlanLimits = PlanLimits {
        messages: Both { hour: 50, day: UNLIMITED },
        recipients: Both { hour: UNLIMITED, day: 900 },
        max_failed_percent: 40,
        min_failed: 5,
        brake_seconds: 600,
        ..PlanLimits::NONE
    };

    fn rule(action: Action, flags: u8) -> Rule {
        let hour = Limit { limit: 7, band: 2 };
        Rule { flags, hour, plan: 0, ..Rule::of(action, Origin::Default) }
    }

    fn set(budgets: [Budget; 3]) -> Vec<(&'static str, Span, u32)> {
        let all = budgets.iter().flat_map(|b| Span::ALL.map(|span| (b.unit, span, b.limit(span))));
        all.filter_map(|(unit, span, limit)| Some((unit, span, limit?))).collect()
    }

    struct One;

    impl Rules for One {
        type Ref<T: Copy + 'static> = Box<T>;

        fn part<T: Copy, U: Copy>(whole: Box<T>, part: impl FnOnce(&T) -> &U) -> Box<U> {
            Box::new(*part(&whole))
        }

        fn rule(&self, _: Account) -> Option<Box<Rule>> {
            None
        }

        fn plan(&self, plan: u16) -> Option<Box<PlanLimits>> {
            (plan == 0).then(|| Box::new(PLAN))
        }

        fn by_hand(&self, _: Account) -> Option<Box<ByHand>> {
            None
        }

        fn chain_of(&self, _: u64) -> Option<Box<Chain>> {
            None
        }
    }

    #[test]
    fn an_account_is_held_to_what_its_plan_says_and_an_exempt_one_to_nothing() {
        let limited = rule(Action::Limited, rule_flag::UNITS);
        let all = [("connection", Span::Hour, 7), ("message", Span::Hour, 50), ("recipient", Span::Day, 900)];
        assert_eq!(set(of_rule(&limited, &plan(&One, &limited))), all);
        let only_connections = rule(Action::Limited, 0);
        assert_eq!(set(of_rule(&only_connections, &plan(&One, &only_connections))), all[..1]);
        for action in [Action::Exempt, Action::Deny, Action::Closed] {
            let rule = rule(action, rule_flag::UNITS | rule_flag::BRAKE);
            assert_eq!(plan(&One, &rule), PlanLimits::NONE);
            assert_eq!(set(of_rule(&rule, &PLAN)), []);
        }
        let gone = Rule { plan: 1, ..limited };
        assert_eq!(plan(&One, &gone), PlanLimits::NONE, "a plan that was just replaced");
    }

    #[test]
    fn the_host_is_held_to_its_own_budget() {
        let policy = Policy { host_day: 1000, host_messages: PLAN.messages, ..Policy::open() };
        assert_eq!(set(of_host(&policy)), [("connection", Span::Day, 1000), ("message", Span::Hour, 50)]);
    }

    #[test]
    fn a_brake_tells_its_share_and_whether_it_still_holds() {
        let second = 1_000_000_000;
        let brake = |tripped, now, failed, of| {
            let brake = Brake::new(&PLAN, tripped, now, failed, of);
            (brake.failed_percent, brake.holds)
        };
        assert_eq!(brake(None, second, 0, 0), (None, false));
        assert_eq!(brake(None, second, 6, 8), (Some(75.0), false), "it trips with the next failure");
        assert_eq!(brake(Some(1), second, 6, 8), (Some(75.0), true));
        assert_eq!(brake(Some(1), 601 * second, 6, 8), (Some(75.0), false), "lapsed");
        assert_eq!(brake(Some(1), second, 6, 24), (Some(25.0), false), "the share has fallen");
    }
}
