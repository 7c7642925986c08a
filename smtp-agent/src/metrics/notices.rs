//! What became of notices.

use prometheus::Registry;

use super::families::{Result, counters};
use crate::daemon::shared::Shared;

pub(super) fn families(registry: &Registry, shared: &Shared) -> Result<()> {
    let family = counters(
        registry,
        "smtp_agent_notifications_total",
        "Notices since the agent started, by kind of sink: messages that were sent or dropped, attempts that failed, notices that were withheld.",
        &["sink", "result"],
    )?;
    for (sink, result, count) in shared.notices.totals().all() {
        family.with_label_values(&[sink, result]).inc_by(count);
    }
    Ok(())
}
