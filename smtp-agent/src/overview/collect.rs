//! Reads the overview from the maps.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, btree_map::Entry},
};

use smtp_common::{
    connection::{Account, Route},
    counter::{Loss, Verdict},
    names::program,
    window::Span,
};

use super::{
    AccountStatus, BrakeStatus, HostStatus, LimitUsage, Overview, SharedStatus, Usage,
    counts::{Conversations, Counts},
};
use crate::{
    accounts::naming::Naming,
    exit::Result,
    kernel::{gate, maps::Maps, pins::Pins},
    metrics::{
        budget::{self, Brake, Budget, CONNECTION},
        wanted,
    },
    policy::explain::origin,
};

/// What the kernel has counted of one account, by route.
#[derive(Default, Clone)]
struct Counted {
    connections: [Counts; Route::ALL.len()],
    conversations: BTreeMap<&'static str, Conversations>,
    all: Conversations,
}

impl Counted {
    fn add(&mut self, other: &Self) {
        for (own, others) in self.connections.iter_mut().zip(&other.connections) {
            others.iter().for_each(|(verdict, count)| *own.entry(verdict).or_default() += count);
        }
        for (route, others) in &other.conversations {
            self.conversations.entry(route).or_default().merge(others);
        }
        self.all.merge(&other.all);
    }
}

pub fn collect(pins: &Pins, maps: &Maps, naming: &Naming) -> Result<Overview> {
    let policy = maps.policy()?;
    let limits = usages(maps, Account::HOST, &budget::of_host(&policy))?;
    let of = |span| connections(&limits, span).unwrap_or(Usage { used: 0, limit: None });
    let (hour, day) = (of(Span::Hour), of(Span::Day));
    let mut host = HostStatus { hour, day, limits, conversations: Conversations::default() };

    let mut accounts = Vec::new();
    for (label, (account, counted)) in by_label(maps, naming, count(maps, &mut host.conversations)?)? {
        let rule = maps.rule_for(&policy, account);
        let plan = budget::plan(maps, &rule);
        let mut limits = usages(maps, account, &budget::of_rule(&rule, &plan))?;
        limits.retain(|held_to| held_to.usage.limit.is_some());
        let brake = budget::brake(maps, account, &rule, &plan)?;
        let [local, remote, pipe] = counted.connections;
        accounts.push(AccountStatus {
            account: label,
            rule: origin(&rule),
            hour: connections(&limits, Span::Hour),
            day: connections(&limits, Span::Day),
            limits,
            remote,
            local,
            pipe,
            conversations: counted.all,
            by_route: counted.conversations,
            brake: brake.map(|Brake { holds, failed_percent }| BrakeStatus { holds, failed_percent }),
        });
    }
    accounts.sort_by_key(|a| (Reverse(a.remote.values().sum::<u64>()), a.account.clone()));
    Ok(Overview {
        pins: pins.dir().display().to_string(),
        agent_running: pins.agent_is_running(),
        attached: wanted(&policy).map(|hook| (hook, gate::is_attached(pins, hook))).collect(),
        mode: if policy.enforce == 1 { "enforce" } else { "observe" },
        policy_generation: policy.serial,
        ports: maps.ports()?.iter().collect(),
        messages_wanted: policy.sessions != 0,
        messages_followed: policy.sessions != 0 && gate::are_attached(pins, &program::FOLLOWERS),
        host,
        shared: shared(maps)?,
        accounts,
        lost: Loss::ALL.into_iter().map(|l| Ok((l.name(), maps.loss(l)?))).collect::<Result<_>>()?,
    })
}

fn shared(maps: &Maps) -> Result<Vec<SharedStatus>> {
    let status = |held: budget::Shared| {
        let mut limits = usages(maps, held.scope, &held.budgets)?;
        limits.retain(|held_to| held_to.usage.limit.is_some());
        Ok(SharedStatus { level: held.level, name: held.name, limits })
    };
    budget::shared(maps)?.into_iter().map(status).collect()
}

/// What is used of each budget, hour and day.
fn usages(maps: &Maps, scope: Account, budgets: &[Budget]) -> Result<Vec<LimitUsage>> {
    let mut all = Vec::new();
    for budget in budgets {
        let used = maps.used(scope, budget.lane)?;
        all.extend(Span::ALL.map(|span| LimitUsage {
            unit: budget.unit,
            window: span.name(),
            usage: Usage { used: used.of(span).total, limit: budget.limit(span) },
        }));
    }
    Ok(all)
}

fn connections(limits: &[LimitUsage], span: Span) -> Option<Usage> {
    let mut found = limits.iter().filter(|held_to| held_to.unit == CONNECTION && held_to.window == span.name());
    found.next().map(|held_to| held_to.usage)
}

/// One line for each name: a container that was started again is another account by the same name, and charged to the one that
/// was first seen (`name_container`), whose limits are those of the line.
fn by_label(
    maps: &Maps,
    naming: &Naming,
    counted: BTreeMap<Account, Counted>,
) -> Result<BTreeMap<String, (Account, Counted)>> {
    let order: HashMap<Account, usize> =
        maps.accounts()?.into_iter().enumerate().map(|(n, (account, _))| (account, n)).collect();
    let first = |account: &Account| order.get(account).copied().unwrap_or(usize::MAX);
    let mut all: BTreeMap<String, (Account, Counted)> = BTreeMap::new();
    for (account, counted) in counted {
        match all.entry(naming.label(account, maps)) {
            Entry::Vacant(place) => {
                place.insert((account, counted));
            }
            Entry::Occupied(mut place) => {
                let (one, sum) = place.get_mut();
                sum.add(&counted);
                if first(&account) < first(one) {
                    *one = account;
                }
            }
        }
    }
    Ok(all)
}

/// Every account that anything was counted of; what was said in sessions also goes into the host's sum.
fn count(maps: &Maps, host: &mut Conversations) -> Result<BTreeMap<Account, Counted>> {
    let mut all: BTreeMap<Account, Counted> = BTreeMap::new();
    for (key, count) in maps.counters()?.into_iter().filter(|(_, count)| *count > 0) {
        let (Some(verdict), Some(route)) = (Verdict::from_u8(key.verdict), Route::from_u8(key.route)) else { continue };
        *all.entry(key.account).or_default().connections[route as usize].entry(verdict.name()).or_default() += count;
    }
    for (key, count) in maps.tallies()?.into_iter().filter(|(_, count)| *count > 0) {
        let Some(route) = Route::from_u8(key.route) else { continue };
        let counted = all.entry(key.account).or_default();
        counted.conversations.entry(route.name()).or_default().add(&key, count);
        counted.all.add(&key, count);
        host.add(&key, count);
    }
    Ok(all)
}
