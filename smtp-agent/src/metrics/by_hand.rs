//! How much is said by hand.

use prometheus::Registry;

use super::families::{Result, int_gauges};
use crate::{by_hand::Says, daemon::shared::Shared};

pub(super) fn families(registry: &Registry, shared: &Shared) -> Result<()> {
    let said = int_gauges(
        registry,
        "smtp_by_hand",
        "Users, groups, containers and patterns of cgroups of which `smtp-agent allow` or `block` says something now.",
        &["says"],
    )?;
    let holding = shared.said().holding();
    for says in Says::ALL {
        let count = holding.iter().filter(|entry| entry.says == says).count();
        said.with_label_values(&[says.name()]).set(count as i64);
    }
    Ok(())
}
