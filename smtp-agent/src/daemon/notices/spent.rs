//! Which limit has stopped an account, where no event says so.

use smtp_common::{
    connection::Account,
    counter::Reason,
    level::{Level, Purse},
    rule::{Action, Policy, Rule},
    tally::Unit,
    window::{Lane, Span},
};

use crate::{
    kernel::maps::Maps,
    metrics::budget::{self, Budget},
};

/// A limit that is used up.
#[derive(Debug, PartialEq)]
pub(super) struct Spent {
    pub(super) reason: Reason,
    pub(super) limit: u64,
    pub(super) used: u64,
}

/// A limit that is used up and stops an account: its own, else one that it shares. Where none is, something else stopped it,
/// which is told as that.
pub(super) fn spent(maps: &Maps, policy: &Policy, rule: &Rule, account: Account) -> Option<Spent> {
    if rule.action == Action::Deny as u8 || rule.action == Action::Closed as u8 {
        return None;
    }
    let full = |level: Option<Level>, scope: Account, budgets: [Budget; 3]| {
        let used = |lane, span: Span| Some(maps.used(scope, lane).ok()?.of(span).total);
        first_spent(level?, &budgets, used)
    };
    let of = |purse: &Purse| full(budget::level(purse), purse.scope, budget::of_purse(purse));
    full(Some(Level::User), account, budget::of_rule(rule, &budget::plan(maps, rule)))
        .or_else(|| budget::purses_of(maps, rule).find_map(|purse| of(&purse)))
        .or_else(|| full(Some(Level::Host), Account::HOST, budget::of_host_for(policy, rule)?))
        .or_else(|| {
            // Counters do not say in which cgroup an attempt was made: it is told only where there is no choice.
            let purses = maps.purses().ok()?;
            let cgroups = purses.iter().filter(|purse| budget::level(purse) == Some(Level::Cgroup));
            let mut spent = cgroups.filter_map(of);
            spent.next().filter(|_| spent.next().is_none())
        })
}

/// The first of these budgets that is used up.
fn first_spent(level: Level, budgets: &[Budget; 3], used: impl Fn(Lane, Span) -> Option<u64>) -> Option<Spent> {
    for budget in budgets {
        for span in Span::ALL {
            let Some(limit) = budget.limit(span).map(u64::from) else { continue };
            let used = used(budget.lane, span)?;
            if used >= limit {
                let unit = [Unit::Message, Unit::Recipient].into_iter().find(|unit| Lane::of(*unit) == budget.lane);
                let reason = Reason::from_u8(Reason::limit(level as u32, unit, span == Span::Day))?;
                return Some(Spent { reason, limit, used });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_common::window::{Both, UNLIMITED};

    #[test]
    fn a_limit_that_is_spent_is_named_with_its_level_unit_and_window() {
        let limits = |hour, day| Both { hour, day };
        let budgets = |connections, messages| {
            let mut purse = Purse::new(Level::Group, Account::user(1));
            (purse.messages, purse.hour.limit) = (messages, connections);
            budget::of_purse(&purse)
        };
        let used = |lane, span| Some(if (lane, span) == (Lane::Messages, Span::Day) { 30 } else { 7 });
        let unlimited = limits(UNLIMITED, UNLIMITED);
        assert_eq!(first_spent(Level::Group, &budgets(UNLIMITED, unlimited), used), None);
        assert_eq!(first_spent(Level::Group, &budgets(8, limits(8, 31)), used), None);
        let of = |level, budgets| first_spent(level, &budgets, used).unwrap();
        let spent = of(Level::Group, budgets(8, limits(8, 30)));
        assert_eq!(spent, Spent { reason: Reason::GroupMessagesDay, limit: 30, used: 30 });
        assert_eq!(of(Level::Plan, budgets(7, unlimited)).reason, Reason::PlanHour);
        assert_eq!(of(Level::Cgroup, budgets(3, limits(1, 1))).reason, Reason::CgroupHour);
        assert_eq!(of(Level::User, budgets(UNLIMITED, limits(7, UNLIMITED))).reason, Reason::MessagesHour);
    }
}
