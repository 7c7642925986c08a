//! Limits as the kernel reads them, from those of a plan as they are at a moment.

use chrono::{Datelike, Timelike};
use smtp_common::{
    connection::Account,
    level::{Level, Purse, purse_flag},
    rule::{Action, BRAKE_STAYS, Limit, NO_PLAN, Origin, PlanLimits, Rule, plan_hash, rule_flag},
    window::{Both, UNLIMITED},
};

use crate::config::{Config, OnSoft, Plan, PlanRef, Quota, Quotas, Release};

/// A moment of the week, in the host's local time: what schedules go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// 0 is Monday.
    pub weekday: u8,
    /// Of the day.
    pub minute: u16,
}

impl Moment {
    pub const MONDAY: Self = Self { weekday: 0, minute: 0 };

    /// This one, by the host's clock and time zone.
    pub fn now() -> Self {
        let now = chrono::Local::now();
        let weekday = now.weekday().num_days_from_monday() as u8;
        Self { weekday, minute: (now.hour() * 60 + now.minute()) as u16 }
    }

    /// The limits of a plan at this moment.
    pub fn quotas(self, plan: &Plan) -> Quotas {
        plan.quotas_at(self.weekday, self.minute)
    }
}

/// The rule that gives a plan, without what it shares.
pub fn rule(config: &Config, plan: PlanRef, origin: Origin, moment: Moment) -> Rule {
    match plan {
        PlanRef::Deny => Rule::of(Action::Closed, origin),
        PlanRef::Allow => Rule::of(Action::Limited, origin),
        PlanRef::Plan(index) => {
            let plan = &config.plans[index];
            let Quotas { connections, .. } = moment.quotas(plan);
            Rule {
                on_soft: plan.on_soft as u8,
                plan: u16::try_from(index).unwrap_or(NO_PLAN),
                flags: flags(plan, moment),
                hour: limit(connections.per_hour, plan.soft_percent),
                day: limit(connections.per_day, plan.soft_percent),
                ..Rule::of(Action::Limited, origin)
            }
        }
    }
}

/// A rule with the plan's brake and nothing else of what it limits besides connections. Plans have a second number each,
/// behind all of them, under which they are listed so.
pub fn without_units(config: &Config, rule: Rule) -> Rule {
    if rule.plan == NO_PLAN {
        return rule;
    }
    let brake = rule.flags & rule_flag::BRAKE;
    let units = if brake != 0 { rule_flag::UNITS } else { 0 };
    let plan = u16::try_from(rule.plan as usize + config.plans.len()).unwrap_or(NO_PLAN);
    Rule { plan, flags: rule.flags & !rule_flag::UNITS | units, ..rule }
}

/// What all plans limit besides connections: first as they are, then their brakes alone.
pub fn all_plan_limits(config: &Config, moment: Moment) -> Vec<PlanLimits> {
    let whole = config.plans.iter().map(|plan| plan_limits(plan, moment));
    let brakes = config.plans.iter().map(|plan| PlanLimits {
        messages: Both::UNLIMITED,
        recipients: Both::UNLIMITED,
        ..plan_limits(plan, moment)
    });
    whole.chain(brakes).collect()
}

fn limit(limit: Option<u32>, soft_percent: u32) -> Limit {
    limit.map_or(Limit::NONE, |n| Limit::with_soft_percent(n, soft_percent))
}

fn flags(plan: &Plan, moment: Moment) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    bit(plan.local, rule_flag::LOCAL)
        | bit(plan_limits(plan, moment) != PlanLimits::NONE, rule_flag::UNITS)
        | bit(plan.brake.is_some(), rule_flag::BRAKE)
}

/// What a plan limits besides connections.
pub fn plan_limits(plan: &Plan, moment: Moment) -> PlanLimits {
    let Quotas { messages, recipients, .. } = moment.quotas(plan);
    let limits = PlanLimits { messages: both(messages), recipients: both(recipients), ..PlanLimits::NONE };
    let Some(brake) = &plan.brake else { return limits };
    PlanLimits {
        max_failed_percent: brake.max_failed_percent,
        min_failed: brake.min_failed,
        brake_seconds: match brake.release {
            Release::WhenFallen => 0,
            // The configuration permits whole seconds of up to 30 days.
            Release::After(time) => time.as_secs() as u32,
            Release::Never => BRAKE_STAYS,
        },
        plan: plan_hash(&plan.name),
        ..limits
    }
}

/// A purse with such limits. Those of a plan have its soft band; what a whole group or plan shares has none.
pub fn purse(level: Level, scope: Account, quotas: Quotas, plan: Option<&Plan>) -> Purse {
    let percent = plan.map_or(100, |plan| plan.soft_percent);
    let local = plan.is_some_and(|plan| plan.local);
    Purse {
        hour: limit(quotas.connections.per_hour, percent),
        day: limit(quotas.connections.per_day, percent),
        messages: both(quotas.messages),
        recipients: both(quotas.recipients),
        on_soft: plan.map_or(OnSoft::Defer, |plan| plan.on_soft) as u8,
        flags: if local { purse_flag::LOCAL } else { 0 },
        ..Purse::new(level, scope)
    }
}

pub fn both(quota: Quota) -> Both {
    Both { hour: quota.per_hour.unwrap_or(UNLIMITED), day: quota.per_day.unwrap_or(UNLIMITED) }
}
