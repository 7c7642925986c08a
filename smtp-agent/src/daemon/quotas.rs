//! What is left of limits, for reports; and the report of the page.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
};

use smtp_common::{
    connection::Account,
    level::{LINKS, Level},
    rule::Action,
    window::Span,
};

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
    let host = of_scope(maps, "host", Account::HOST, &budget::of_host(&policy))?;
    let mut shared: HashMap<u32, Vec<Left>> = HashMap::new();
    let mut quotas = Quotas::default();
    for (account, _) in maps.accounts()? {
        let rule = maps.rule_for(&policy, account);
        let plan = budget::plan(maps, &rule);
        let mut all = of_scope(maps, OWN, account, &budget::of_rule(&rule, &plan))?;
        if rule.action == Action::Limited as u8 {
            let chain = Some(u32::from(rule.chain)).filter(|chain| *chain != 0).and_then(|chain| maps.chain(chain));
            for number in chain.map_or([0; LINKS], |chain| chain.purses).into_iter().filter(|number| *number != 0) {
                if let Entry::Vacant(place) = shared.entry(number) {
                    place.insert(of_purse(maps, number)?);
                }
                all.extend(shared[&number].iter().cloned());
            }
            all.extend(host.iter().cloned());
        }
        // Of accounts of one name the first is charged: a container that was started again.
        quotas.entry(naming.label(account, maps)).or_insert(all);
    }
    Ok(quotas)
}

fn of_purse(maps: &Maps, number: u32) -> Result<Vec<Left>> {
    let Some(purse) = maps.purse(number) else { return Ok(Vec::new()) };
    let level = Level::ALL.into_iter().find(|level| *level as u8 == purse.level).map_or("shared", Level::name);
    of_scope(maps, level, purse.scope, &budget::of_purse(&purse))
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
