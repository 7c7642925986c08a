//! Limits, what is used of them, and the failure brake: of accounts and of the host.

use prometheus::Registry;
use smtp_common::{
    connection::Account,
    rule::{Action, Policy},
    window::{Both, Span, UNLIMITED},
};

use super::{
    budget,
    families::{Result, gauges},
    named::Named,
};
use crate::{accounts::label::OTHER, kernel::maps::Maps};

/// A limit as a gauge shows it.
fn finite(limit: u32) -> f64 {
    if limit == UNLIMITED { f64::INFINITY } else { limit as f64 }
}

pub(super) fn families(registry: &Registry, maps: &Maps, policy: &Policy, names: &Named) -> Result<()> {
    accounts(registry, maps, policy, names)?;
    shared(registry, maps, names)?;
    host(registry, maps, policy)
}

/// Limits of plans, groups and cgroups. They come from the configuration, but a pattern can stand for thousands of cgroups:
/// beyond as many as accounts have names, they are `other` together.
fn shared(registry: &Registry, maps: &Maps, names: &Named) -> Result<()> {
    let labels = &["level", "name", "unit", "window"];
    let limit = gauges(
        registry,
        "smtp_shared_limit",
        "Connections, messages or recipients that all accounts on a plan, in a group or in a cgroup may send together in a window.",
        labels,
    )?;
    let usage = gauges(
        registry,
        "smtp_shared_usage",
        "Connections, messages or recipients that were granted to a plan, group or cgroup in the window that ends now; for `other`, the most any one of them was.",
        labels,
    )?;
    for (n, held) in budget::shared(maps)?.into_iter().enumerate() {
        let name = if n < names.room { held.name.as_str() } else { OTHER };
        for budget in held.budgets.into_iter().filter(|budget| budget.limits.is_set()) {
            let used = maps.used(held.scope, budget.lane)?;
            for (span, most) in Span::ALL.into_iter().filter_map(|span| Some((span, budget.limit(span)?))) {
                let labels = [held.level, name, budget.unit, span.name()];
                let series = usage.with_label_values(&labels);
                series.set(series.get().max(used.of(span).total as f64));
                if name != OTHER {
                    limit.with_label_values(&labels).set(most as f64);
                }
            }
        }
    }
    Ok(())
}

fn accounts(registry: &Registry, maps: &Maps, policy: &Policy, names: &Named) -> Result<()> {
    let limit = gauges(
        registry,
        "smtp_limit",
        "Connections, messages or recipients an account may send in a window; for `other`, the default plan's (+Inf for none).",
        &["user", "unit", "window"],
    )?;
    let usage = gauges(
        registry,
        "smtp_usage",
        "Connections, messages or recipients an account was granted in the window that ends now; for `other`, the most any one of them was.",
        &["user", "unit", "window"],
    )?;
    let failed = gauges(
        registry,
        "smtp_failed_percent",
        "Share of an account's messages of the last hour that were deferred or rejected, where its plan has a failure brake; for `other`, the highest.",
        &["user"],
    )?;
    let brake = gauges(
        registry,
        "smtp_brake",
        "1 while the failure brake holds an account, where its plan has one; for `other`, while it holds any of them.",
        &["user"],
    )?;
    for budget in budget::of_rule(&policy.default, &budget::plan(maps, &policy.default)) {
        let closed = policy.default.action == Action::Closed as u8;
        let limits = if closed { Both { hour: 0, day: 0 } } else { budget.limits };
        for span in Span::ALL {
            limit.with_label_values(&[OTHER, budget.unit, span.name()]).set(finite(limits.of(span)));
            usage.with_label_values(&[OTHER, budget.unit, span.name()]).set(0.0);
        }
    }
    failed.with_label_values(&[OTHER]).set(0.0);
    brake.with_label_values(&[OTHER]).set(0.0);

    for &account in &names.seen {
        let label = names.label(account);
        let rule = maps.rule_for(policy, account);
        let plan = budget::plan(maps, &rule);
        for budget in budget::of_rule(&rule, &plan).into_iter().filter(|budget| budget.limits.is_set()) {
            let used = maps.used(account, budget.lane)?;
            for (span, held_to) in Span::ALL.into_iter().filter_map(|span| Some((span, budget.limit(span)?))) {
                let labels = [label, budget.unit, span.name()];
                let series = usage.with_label_values(&labels);
                series.set(series.get().max(used.of(span).total as f64));
                if label != OTHER {
                    limit.with_label_values(&labels).set(held_to as f64);
                }
            }
        }
        if let Some(stands) = budget::brake(maps, account, &rule, &plan)? {
            let series = brake.with_label_values(&[label]);
            series.set(series.get().max(stands.holds as u8 as f64));
            if let Some(percent) = stands.failed_percent {
                let series = failed.with_label_values(&[label]);
                series.set(series.get().max(percent));
            }
        }
    }
    Ok(())
}

fn host(registry: &Registry, maps: &Maps, policy: &Policy) -> Result<()> {
    let limit = gauges(
        registry,
        "smtp_host_limit",
        "The host's budget of connections, messages or recipients in a window; +Inf when none is set.",
        &["unit", "window"],
    )?;
    let usage = gauges(
        registry,
        "smtp_host_usage",
        "Connections, messages or recipients from the whole host to remote SMTP servers in the window that ends now, exempt accounts included.",
        &["unit", "window"],
    )?;
    for budget in budget::of_host(policy) {
        let used = maps.used(Account::HOST, budget.lane)?;
        for span in Span::ALL {
            limit.with_label_values(&[budget.unit, span.name()]).set(finite(budget.limits.of(span)));
            usage.with_label_values(&[budget.unit, span.name()]).set(used.of(span).total as f64);
        }
    }
    Ok(())
}
