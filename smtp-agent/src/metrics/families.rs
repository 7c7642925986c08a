//! A scrape: every family in the text format, and how a family is made.

use prometheus::{
    CounterVec as FloatCounterVec, Encoder, Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
    core::{AtomicU64, Collector, GenericCounterVec},
};

use super::{by_hand, connections, conversations, health, limits, named::Named, notices};
use crate::daemon::shared::Shared;

pub(super) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
pub(super) type CounterVec = GenericCounterVec<AtomicU64>;

/// Everything, in the text format Prometheus scrapes.
pub(super) fn scrape(shared: &Shared) -> Result<Vec<u8>> {
    let registry = Registry::new();
    let maps = shared.maps();
    let policy = maps.policy()?;
    let tallies = maps.tallies()?;
    let names = Named::of(shared, &maps, &tallies)?;
    connections::families(&registry, &maps, &names)?;
    conversations::families(&registry, &tallies, &names)?;
    limits::families(&registry, &maps, &policy, &names)?;
    by_hand::families(&registry, shared)?;
    notices::families(&registry, shared)?;
    health::families(&registry, shared, &maps, &policy, names.seen.len())?;
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out)?;
    Ok(out)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

/// For sums that are no whole numbers.
pub(super) fn float_counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<FloatCounterVec> {
    register(registry, FloatCounterVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    register(registry, GaugeVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn int_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge> {
    register(registry, Gauge::new(name, help)?)
}
