//! The metric families: names, labels and where each number comes from.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use prometheus::{
    Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
    core::{AtomicU64, Collector, GenericCounter, GenericCounterVec},
};
use smtp_common::{
    connection::{Account, Route},
    counter::{Loss, Verdict},
    names::{LAYOUT_VERSION, program},
    rule::{Action, Policy},
    window::{Span, UNLIMITED},
};

use crate::{
    accounts::label::OTHER,
    daemon::shared::Shared,
    kernel::{gate, maps::Maps},
};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
type CounterVec = GenericCounterVec<AtomicU64>;

/// Everything, in the text format Prometheus scrapes.
pub fn scrape(shared: &Shared) -> Result<Vec<u8>> {
    let registry = Registry::new();
    let maps = shared.maps();
    let names = Named::of(shared, &maps)?;
    connections(&registry, &maps, &names)?;
    let policy = maps.policy()?;
    limits(&registry, &maps, &policy, &names)?;
    host(&registry, &maps, &policy)?;
    health(&registry, shared, &maps, &policy, names.seen.len())?;
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out)?;
    Ok(out)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<GenericCounter<AtomicU64>> {
    register(registry, IntCounter::new(name, help)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    register(registry, GaugeVec::new(Opts::new(name, help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge> {
    register(registry, Gauge::new(name, help)?)
}

/// Which accounts have a label of their own: the first that were seen, up to the cap, so that a label once
/// given is kept over restarts and no counter ever falls.
struct Named {
    labels: HashMap<Account, String>,
    seen: Vec<Account>,
}

impl Named {
    fn of(shared: &Shared, maps: &Maps) -> Result<Self> {
        let room = shared.status.max_users.load(Ordering::Relaxed);
        let seen: Vec<_> = maps.accounts()?.into_iter().map(|(account, _)| account).collect();
        let mut labels = HashMap::new();
        let mut taken = HashSet::new();
        for &account in &seen {
            let label = shared.naming.label(account, maps);
            // Two accounts may share a name: a container that was started anew has the label it had.
            if taken.contains(&label) || taken.len() < room {
                taken.insert(label.clone());
                labels.insert(account, label);
            }
        }
        Ok(Self { labels, seen })
    }

    fn label(&self, account: Account) -> &str {
        self.labels.get(&account).map_or(OTHER, String::as_str)
    }
}

fn connections(registry: &Registry, maps: &Maps, names: &Named) -> Result<()> {
    let family = counters(
        registry,
        "smtp_connections_total",
        "SMTP connections the gate has seen, by account, route, port and verdict.",
        &["user", "route", "port", "verdict"],
    )?;
    // A verdict that shows up with its first count would hide that count from rate(): all start at 0.
    let mut sums: HashMap<(&str, u8, u16), [u64; Verdict::ALL.len()]> = HashMap::new();
    for port in maps.ports()?.iter() {
        for route in Route::ALL {
            sums.insert((OTHER, route as u8, port), Default::default());
        }
    }
    for (key, count) in maps.counters()? {
        let verdicts = sums.entry((names.label(key.account), key.route, key.port)).or_default();
        if let Some(sum) = verdicts.get_mut(key.verdict as usize) {
            *sum += count;
        }
    }
    for ((label, route, port), verdicts) in sums {
        let route = Route::from_u8(route).map_or("unknown", Route::name);
        for verdict in Verdict::ALL {
            let labels = [label, route, &port.to_string(), verdict.name()];
            family.with_label_values(&labels).inc_by(verdicts[verdict as usize]);
        }
    }
    Ok(())
}

/// A limit as a gauge shows it.
fn finite(limit: u32) -> f64 {
    if limit == UNLIMITED { f64::INFINITY } else { limit as f64 }
}

fn limits(registry: &Registry, maps: &Maps, policy: &Policy, names: &Named) -> Result<()> {
    let limit = gauges(
        registry,
        "smtp_limit",
        "Connections to remote SMTP servers an account may make in a window; for `other`, the default plan's (+Inf for none).",
        &["user", "window"],
    )?;
    let usage = gauges(
        registry,
        "smtp_usage",
        "Connections to remote SMTP servers an account was granted in the window that ends now; for `other`, the most any one of them was.",
        &["user", "window"],
    )?;
    for span in Span::ALL {
        let other =
            if policy.default.action == Action::Closed as u8 { 0.0 } else { finite(policy.default.limit(span).limit) };
        limit.with_label_values(&[OTHER, span.name()]).set(other);
        usage.with_label_values(&[OTHER, span.name()]).set(0.0);
    }
    for &account in &names.seen {
        let rule = maps.rule_for(policy, account);
        let in_force = Span::ALL.map(|span| rule.limit_in_force(span).map(|limit| (span, limit)));
        if in_force == [None; 2] {
            continue;
        }
        let label = names.label(account);
        let used = maps.usage(account)?;
        for (span, held_to) in in_force.into_iter().flatten() {
            let series = usage.with_label_values(&[label, span.name()]);
            series.set(series.get().max(used.of(span).total as f64));
            if label != OTHER {
                limit.with_label_values(&[label, span.name()]).set(held_to.limit as f64);
            }
        }
    }
    Ok(())
}

fn host(registry: &Registry, maps: &Maps, policy: &Policy) -> Result<()> {
    let limit = gauges(
        registry,
        "smtp_host_limit",
        "The host's budget of connections in a window; +Inf when none is set.",
        &["window"],
    )?;
    let usage = gauges(
        registry,
        "smtp_host_usage",
        "Connections to remote SMTP servers from the whole host in the window that ends now, exempt accounts included.",
        &["window"],
    )?;
    let used = maps.usage(Account::HOST)?;
    for span in Span::ALL {
        limit.with_label_values(&[span.name()]).set(finite(policy.host_limit(span)));
        usage.with_label_values(&[span.name()]).set(used.of(span).total as f64);
    }
    Ok(())
}

fn health(registry: &Registry, shared: &Shared, maps: &Maps, policy: &Policy, accounts: usize) -> Result<()> {
    let status = &shared.status;

    counter(registry, "smtp_agent_events_total", "Events the agent has read from the kernel since it started.")?
        .inc_by(status.events.load(Ordering::Relaxed));
    let lost = counters(
        registry,
        "smtp_agent_events_lost_total",
        "Events that nobody was told of, by cause; counts are not affected.",
        &["cause"],
    )?;
    for cause in Loss::EVENTS {
        lost.with_label_values(&[cause.name()]).inc_by(maps.loss(cause)?);
    }
    lost.with_label_values(&["subscriber_slow"]).inc_by(status.events_lost_to_slow_listeners.load(Ordering::Relaxed));

    let full = counters(
        registry,
        "smtp_agent_map_full_total",
        "Times a map of the gate had no room; what happens then is in the documentation.",
        &["map"],
    )?;
    for map in Loss::MAPS {
        full.with_label_values(&[map.name()]).inc_by(maps.loss(map)?);
    }
    let entries = gauges(registry, "smtp_agent_map_entries", "Entries in use in a map of the gate.", &["map"])?;
    let capacity = gauges(registry, "smtp_agent_map_capacity", "Entries a map of the gate has room for.", &["map"])?;
    for fill in maps.fill()? {
        entries.with_label_values(&[fill.map]).set(fill.entries as f64);
        capacity.with_label_values(&[fill.map]).set(fill.capacity as f64);
    }

    let attached =
        gauges(registry, "smtp_agent_gate_attached", "1 when the hook is attached to the cgroup.", &["hook"])?;
    for hook in program::ALL {
        attached.with_label_values(&[hook]).set(gate::is_attached(&shared.pins, hook) as u8 as f64);
    }
    let mode = gauges(registry, "smtp_agent_mode", "1 for the mode in force.", &["mode"])?;
    mode.with_label_values(&["enforce"]).set((policy.enforce == 1) as u8 as f64);
    mode.with_label_values(&["observe"]).set((policy.enforce == 0) as u8 as f64);

    gauge(registry, "smtp_agent_policy_generation", "Serial of the policy in force; grows by one with each reload.")?
        .set(policy.serial as f64);
    gauge(
        registry,
        "smtp_agent_config_reload_success",
        "1 when the last attempt to load the configuration succeeded.",
    )?
    .set(status.reload_success.load(Ordering::Relaxed) as u8 as f64);
    gauge(
        registry,
        "smtp_agent_config_reload_success_timestamp_seconds",
        "When the configuration was last loaded, in seconds since the epoch.",
    )?
    .set(status.reload_success_at.load(Ordering::Relaxed) as f64);
    gauge(registry, "smtp_agent_users_unresolved", "Names in the configuration that this host does not have.")?
        .set(status.unresolved.load(Ordering::Relaxed) as f64);
    gauge(registry, "smtp_agent_accounts", "Accounts the gate has seen.")?.set(accounts as f64);

    let build = register(
        registry,
        IntGaugeVec::new(
            Opts::new("smtp_agent_build_info", "1, with the version and the layout of the pins as labels."),
            &["version", "layout"],
        )?,
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), &LAYOUT_VERSION.to_string()]).set(1);
    Ok(())
}
