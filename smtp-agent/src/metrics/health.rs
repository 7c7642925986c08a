//! The agent's own health: events, losses, room in the maps, hooks, mode and configuration.

use std::sync::atomic::Ordering;

use prometheus::Registry;
use smtp_common::{
    counter::Loss,
    names::{LAYOUT_VERSION, program},
    rule::Policy,
};

use super::families::{Result, counters, gauge, gauges, int_gauges};
use crate::{
    daemon::shared::Shared,
    kernel::{gate, maps::Maps},
    store::Cause,
};

/// The programs a policy asks for. Those that follow sessions are gone by intent where it counts no messages, and those
/// that answer for redirected connections where it redirects none: a 0 there would alert.
pub fn wanted(policy: &Policy) -> impl Iterator<Item = &'static str> {
    let followers = program::FOLLOWERS.into_iter().filter(|_| policy.sessions != 0);
    let redirectors = program::REDIRECTORS.into_iter().filter(|_| policy.redirects != 0);
    let watchers = program::WATCHERS.into_iter().filter(|_| policy.cgroups != 0);
    program::GATE.into_iter().chain(program::WITNESSES).chain(followers).chain(redirectors).chain(watchers)
}

pub(super) fn families(
    registry: &Registry,
    shared: &Shared,
    maps: &Maps,
    policy: &Policy,
    accounts: usize,
) -> Result<()> {
    let status = &shared.status;

    let read = counters(
        registry,
        "smtp_agent_events_total",
        "Events the agent has read from the kernel since it started, of connections and of sessions.",
        &["of"],
    )?;
    read.with_label_values(&["connections"]).inc_by(status.events.load(Ordering::Relaxed));
    read.with_label_values(&["sessions"]).inc_by(status.session_events.load(Ordering::Relaxed));
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

    let unwritten = counters(
        registry,
        "smtp_agent_history_lost_total",
        "Events that are missing in the history, by cause; counts are not affected.",
        &["cause"],
    )?;
    for cause in Cause::ALL {
        unwritten.with_label_values(&[cause.name()]).inc_by(shared.history.lost(cause));
    }

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

    let attached = gauges(registry, "smtp_agent_gate_attached", "1 when the hook is attached.", &["hook"])?;
    for hook in wanted(policy) {
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

    let build = int_gauges(
        registry,
        "smtp_agent_build_info",
        "1, with the version and the layout of the pins as labels.",
        &["version", "layout"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), &LAYOUT_VERSION.to_string()]).set(1);
    Ok(())
}
