//! Connections, by account, route, port and verdict.

use std::collections::HashMap;

use prometheus::Registry;
use smtp_common::{connection::Route, counter::Verdict};

use super::{
    families::{Result, counters},
    named::Named,
};
use crate::{accounts::label::OTHER, kernel::maps::Maps};

/// The port a pipe is counted under: it has none.
const NO_PORT: u16 = 0;

pub(super) fn families(registry: &Registry, maps: &Maps, names: &Named) -> Result<()> {
    let family = counters(
        registry,
        "smtp_connections_total",
        "SMTP connections the gate has seen, by account, route, port and verdict; on the route pipe, executions of sendmail.",
        &["user", "route", "port", "verdict"],
    )?;
    // A verdict that shows up with its first count would hide that count from rate(): all start at 0.
    let mut sums: HashMap<(&str, u8, u16), [u64; Verdict::ALL.len()]> = HashMap::new();
    for port in maps.ports()?.iter() {
        for route in [Route::Local, Route::Remote] {
            sums.insert((OTHER, route as u8, port), Default::default());
        }
    }
    sums.insert((OTHER, Route::Pipe as u8, NO_PORT), Default::default());
    let counted = maps.counters()?;
    // The kernel's counters of `other` are made for every route and port, those that nothing can meet included.
    let met = |route, port| (route == Route::Pipe as u8) == (port == NO_PORT);
    for (key, count) in counted.into_iter().filter(|(key, count)| *count > 0 || met(key.route, key.port)) {
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
