//! `smtp-agent status`: who sends, the limits and the gate's health, read from the pinned maps alone.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use smtp_common::{
    connection::{Account, Route},
    counter::{Loss, Verdict},
    names::program,
    window::{Span, UNLIMITED},
};

use super::{
    lenient,
    output::{self, Align, Table},
};
use crate::{
    accounts::naming::Naming,
    exit::{Code, Result},
    kernel::{cgroup::Hierarchy, gate, maps::Maps, pins::Pins},
    policy::explain::origin,
};

#[derive(Serialize)]
struct Status {
    pins: String,
    agent_running: bool,
    attached: BTreeMap<&'static str, bool>,
    mode: &'static str,
    policy_generation: u64,
    ports: Vec<u16>,
    host: BTreeMap<&'static str, Usage>,
    accounts: Vec<AccountStatus>,
    lost: BTreeMap<&'static str, u64>,
}

#[derive(Serialize, Clone, Copy)]
struct Usage {
    used: u64,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct AccountStatus {
    account: String,
    rule: &'static str,
    hour: Option<Usage>,
    day: Option<Usage>,
    /// Connections since the gate was first put in force, by route and verdict.
    remote: BTreeMap<&'static str, u64>,
    local: BTreeMap<&'static str, u64>,
}

pub(super) fn status(path: &Path, as_json: bool) -> Result<Code> {
    let lenient = lenient::load(path);
    let pins = Pins::new(&lenient.paths.pins);
    pins.require_ours()?;
    let maps = Maps::open(&pins)?;
    // Only the names of containers need the hierarchy, so a host without one still has a status.
    let choice = lenient.config.map(|c| c.cgroup).unwrap_or_default();
    let naming = Naming::new(Hierarchy::find(&choice).ok());
    let status = collect(&pins, &maps, &naming)?;
    let stands = status.attached.values().all(|&a| a);
    if as_json {
        output::json(&status)?;
    } else {
        output::line(&show(&status))?;
    }
    Ok(if stands { Code::Fine } else { Code::No })
}

fn collect(pins: &Pins, maps: &Maps, naming: &Naming) -> Result<Status> {
    let policy = maps.policy()?;
    let set = |limit: u32| (limit != UNLIMITED).then_some(limit);
    let mut host = BTreeMap::new();
    let used = maps.usage(Account::HOST)?;
    for span in Span::ALL {
        host.insert(span.name(), Usage { used: used.of(span).total, limit: set(policy.host_limit(span)) });
    }
    let mut counts: BTreeMap<Account, [BTreeMap<&'static str, u64>; 2]> = BTreeMap::new();
    for (key, count) in maps.counters()? {
        let (Some(verdict), Some(route)) = (Verdict::from_u8(key.verdict), Route::from_u8(key.route)) else { continue };
        if count > 0 {
            *counts.entry(key.account).or_default()[route as usize].entry(verdict.name()).or_default() += count;
        }
    }
    let mut accounts = Vec::new();
    for (account, [local, remote]) in counts {
        let rule = maps.rule_for(&policy, account);
        let used = maps.usage(account)?;
        let usage = |span: Span| {
            let limit = rule.limit_in_force(span)?.limit;
            Some(Usage { used: used.of(span).total, limit: Some(limit) })
        };
        accounts.push(AccountStatus {
            account: naming.label(account, maps),
            rule: origin(&rule),
            hour: usage(Span::Hour),
            day: usage(Span::Day),
            remote,
            local,
        });
    }
    accounts.sort_by_key(|a| (std::cmp::Reverse(a.remote.values().sum::<u64>()), a.account.clone()));
    Ok(Status {
        pins: pins.dir().display().to_string(),
        agent_running: pins.agent_is_running(),
        attached: program::ALL.into_iter().map(|p| (p, gate::is_attached(pins, p))).collect(),
        mode: if policy.enforce == 1 { "enforce" } else { "observe" },
        policy_generation: policy.serial,
        ports: maps.ports()?.iter().collect(),
        host,
        accounts,
        lost: Loss::ALL.into_iter().map(|l| Ok((l.name(), maps.loss(l)?))).collect::<Result<_>>()?,
    })
}

fn show(status: &Status) -> String {
    let stands = status.attached.values().all(|&a| a);
    let mut out = vec![
        format!("gate     {}", if stands { "in force" } else { "NOT ATTACHED: nothing is limited or counted" }),
        format!(
            "agent    {}",
            if status.agent_running {
                "running"
            } else {
                "not running; the gate stands without it, events and metrics do not"
            }
        ),
        format!(
            "policy   generation {}, mode {}, ports {}",
            status.policy_generation,
            status.mode,
            status.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
        ),
    ];
    let budget = |name: &str| {
        let usage = status.host[name];
        let limit = usage.limit.map_or("no limit".into(), |n| format!("of {n}"));
        format!("{} {limit} this {name}", usage.used)
    };
    out.push(format!("host     {}, {}", budget("hour"), budget("day")));
    let lost: Vec<_> = status.lost.iter().filter(|(_, n)| **n > 0).map(|(what, n)| format!("{what} {n}")).collect();
    if !lost.is_empty() {
        out.push(format!("lost     {} (events or entries, never counts)", lost.join(", ")));
    }
    out.push(String::new());
    if status.accounts.is_empty() {
        out.push("no SMTP connection has been seen yet".into());
        return out.join("\n");
    }
    let mut table = Table::new(&[
        ("ACCOUNT", Align::Left),
        ("HOUR", Align::Right),
        ("DAY", Align::Right),
        ("PASSED", Align::Right),
        ("DEFERRED", Align::Right),
        ("REFUSED", Align::Right),
        ("LOCAL", Align::Right),
        ("RULE", Align::Left),
    ]);
    for account in &status.accounts {
        let usage = |usage: Option<Usage>| match usage {
            Some(Usage { used, limit: Some(limit) }) => format!("{used}/{limit}"),
            _ => "-".into(),
        };
        let sum = |names: &[&str]| names.iter().filter_map(|n| account.remote.get(n)).sum::<u64>().to_string();
        table.row(vec![
            account.account.clone(),
            usage(account.hour),
            usage(account.day),
            sum(&["allowed", "exempt", "would_defer", "would_redirect", "would_refuse"]),
            sum(&["deferred", "redirected"]),
            sum(&["refused"]),
            account.local.values().sum::<u64>().to_string(),
            account.rule.to_owned(),
        ]);
    }
    out.push(table.render());
    out.join("\n")
}
