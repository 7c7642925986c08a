//! The state of a gate as its pinned maps tell it: who sends, the limits, the health. What `status`, `top` and the page
//! show.

mod collect;
mod counts;

use std::collections::BTreeMap;

use serde::Serialize;
use smtp_common::{names::program, tally::Unit};

pub use collect::collect;
pub use counts::{Conversations, Counts};

#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    pub pins: String,
    pub agent_running: bool,
    /// The programs the policy asks for.
    pub attached: BTreeMap<&'static str, bool>,
    pub mode: &'static str,
    pub policy_generation: u64,
    pub ports: Vec<u16>,
    /// Whether the policy wants messages counted, and whether that is done.
    pub messages_wanted: bool,
    pub messages_followed: bool,
    pub host: HostStatus,
    /// Limits of plans, groups and cgroups.
    pub shared: Vec<SharedStatus>,
    pub accounts: Vec<AccountStatus>,
    pub lost: BTreeMap<&'static str, u64>,
}

impl Overview {
    /// Connections are decided.
    pub fn stands(&self) -> bool {
        program::GATE.iter().all(|hook| self.attached.get(hook) == Some(&true))
    }

    pub fn is_whole(&self) -> bool {
        self.stands() && self.messages_followed == self.messages_wanted
    }
}

/// Used and permitted in one window.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Usage {
    pub used: u64,
    pub limit: Option<u32>,
}

impl Usage {
    /// Of the limit, where there is one.
    pub fn percent(self) -> Option<u64> {
        let limit = u64::from(self.limit?);
        Some((self.used * 100).checked_div(limit).unwrap_or(100))
    }
}

/// The same, with the unit and the window it is counted in.
#[derive(Debug, Clone, Serialize)]
pub struct LimitUsage {
    pub unit: &'static str,
    pub window: &'static str,
    #[serde(flatten)]
    pub usage: Usage,
}

#[derive(Debug, Clone, Serialize)]
pub struct HostStatus {
    /// Connections.
    pub hour: Usage,
    pub day: Usage,
    /// Every unit and window, those without a limit included.
    pub limits: Vec<LimitUsage>,
    #[serde(flatten)]
    pub conversations: Conversations,
}

/// A limit that several accounts share.
#[derive(Debug, Clone, Serialize)]
pub struct SharedStatus {
    pub level: &'static str,
    pub name: String,
    /// Every unit and window that is limited.
    pub limits: Vec<LimitUsage>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AccountStatus {
    pub account: String,
    pub rule: &'static str,
    /// Connections, where they are limited.
    pub hour: Option<Usage>,
    pub day: Option<Usage>,
    /// Every unit and window that is limited.
    pub limits: Vec<LimitUsage>,
    /// Connections since the gate was first put in force, by route and verdict.
    pub remote: BTreeMap<&'static str, u64>,
    pub local: BTreeMap<&'static str, u64>,
    /// Executions of sendmail.
    pub pipe: BTreeMap<&'static str, u64>,
    /// On all routes together, and on each.
    #[serde(flatten)]
    pub conversations: Conversations,
    pub by_route: BTreeMap<&'static str, Conversations>,
    pub brake: Option<BrakeStatus>,
}

/// Verdicts of those that were stopped, or would have been.
const STOPPED: [&str; 6] = ["deferred", "redirected", "refused", "would_defer", "would_redirect", "would_refuse"];

impl AccountStatus {
    fn routes(&self) -> [&Counts; 3] {
        [&self.remote, &self.local, &self.pipe]
    }

    /// On all routes, whatever became of them.
    pub fn attempts(&self) -> u64 {
        self.routes().into_iter().flat_map(Counts::values).sum()
    }

    /// Attempts, messages and recipients that were stopped, or in observe mode would have been.
    pub fn stopped(&self) -> u64 {
        let connections = self.routes().into_iter().flat_map(|counts| STOPPED.iter().filter_map(|one| counts.get(one)));
        let units = Unit::ALL.into_iter().map(|unit| self.conversations.stopped(unit));
        connections.sum::<u64>() + units.sum::<u64>()
    }

    /// Of the limits of a window (`hour` or `day`) the one that is used most.
    pub fn fullest(&self, window: &str) -> Option<&LimitUsage> {
        // Of several the first, which is that of connections.
        let of_it = self.limits.iter().filter(|held| held.window == window).rev();
        of_it.max_by_key(|held| held.usage.percent())
    }

    /// Of the limit that is used most, in percent.
    pub fn most_used(&self) -> u64 {
        self.limits.iter().filter_map(|held| held.usage.percent()).max().unwrap_or(0)
    }
}

/// The failure brake of an account whose plan has one.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct BrakeStatus {
    pub holds: bool,
    /// Of the messages of the last hour; null where none had an outcome.
    pub failed_percent: Option<f64>,
}
