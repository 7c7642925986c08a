//! What is left of limits, for reports; and the report of the page.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
};

use smtp_common::{connection::Account, level::Level, rule::Action, window::Span};

use super::shared::Shared;
use crate::{
    accounts::naming::Naming,
    exit::{Failure, Result},
    kernel::maps::Maps,
    metrics::budget::{self, Budget},
    report::{Asked, Left, OWN, Quotas, Report, html},
    store::{Dimension, Millis, Reader, now, read::Period},
};

const DAY: Millis = 86_400_000;
/// Accounts on the page.
const ROWS: usize = 100;

/// What is left to each account: of its own limits, of those it shares, and of the host's.
pub fn left(maps: &Maps, naming: &Naming) -> Result<Quotas> {
    let policy = maps.policy()?;
    // Of limits that many share each is looked at once.
    let mut shared: HashMap<Account, Vec<Left>> = HashMap::new();
    let mut quotas = Quotas::default();
    for (account, _) in maps.accounts()? {
        let rule = maps.rule_for(&policy, account);
        let plan = budget::plan(maps, &rule);
        let mut all = of_scope(maps, OWN, account, &budget::of_rule(&rule, &plan))?;
        if rule.action == Action::Limited as u8 {
            let purses = budget::purses_of(maps, &rule)
                .map(|purse| (budget::level(&purse), purse.scope, budget::of_purse(&purse)));
            let host = budget::of_host_for(&policy, &rule).map(|of_it| (Some(Level::Host), Account::HOST, of_it));
            for (level, scope, budgets) in purses.chain(host) {
                if let Entry::Vacant(place) = shared.entry(scope) {
                    place.insert(of_scope(maps, level.map_or("shared", Level::name), scope, &budgets)?);
                }
                all.extend(shared[&scope].iter().cloned());
            }
        }
        // Of accounts of one name the first is charged: a container that was started again.
        quotas.entry(naming.label(account, maps)).or_insert(all);
    }
    Ok(quotas)
}

fn of_scope(maps: &Maps, level: &'static str, scope: Account, budgets: &[Budget]) -> Result<Vec<Left>> {
    let mut all = Vec::new();
    for held_to in budgets {
        if Span::ALL.iter().all(|span| held_to.limit(*span).is_none()) {
            continue;
        }
        let used = maps.used(scope, held_to.lane)?;
        all.extend(Span::ALL.into_iter().filter_map(|span| {
            let limit = u64::from(held_to.limit(span)?);
            let left = limit.saturating_sub(used.of(span).total);
            Some(Left { level, unit: held_to.unit, window: span.name(), left, limit })
        }));
    }
    Ok(all)
}

/// The report of the last day by user, as a page: no more than the metrics tell.
pub(super) fn page(shared: &Shared, state: &Path) -> Result<String> {
    let cannot = |e: &dyn std::fmt::Display| Failure::unavailable(format!("the history cannot be read: {e}"));
    let reader = Reader::open(state).map_err(|e| cannot(&e))?;
    let now = now();
    let host = super::notices::host();
    let asked = Asked { period: Period::new(now - DAY, now), by: Dimension::User, top: ROWS, user: None, host };
    let quotas = left(&shared.maps(), &shared.naming)?;
    let report = Report::make(&reader, &asked, &quotas, now).map_err(|e| cannot(&e))?;
    Ok(html::write(&report))
}
