//! `smtp-agent status`: who sends, the limits and the gate's health, read from the pinned maps alone.

mod collect;
mod counts;
mod show;

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use smtp_common::names::program;

use self::counts::Conversations;
use super::{by_hand::list::List, lenient, output};
use crate::{
    accounts::naming::Naming,
    exit::{Code, Result},
    kernel::{cgroup::Hierarchy, maps::Maps, pins::Pins},
};

#[derive(Serialize)]
struct Status {
    pins: String,
    agent_running: bool,
    /// The programs the policy asks for.
    attached: BTreeMap<&'static str, bool>,
    mode: &'static str,
    policy_generation: u64,
    ports: Vec<u16>,
    /// Whether the policy wants messages counted, and whether that is done.
    messages_wanted: bool,
    messages_followed: bool,
    host: HostStatus,
    /// Limits of plans, groups and cgroups.
    shared: Vec<SharedStatus>,
    accounts: Vec<AccountStatus>,
    /// What is said by hand and holds.
    by_hand: List,
    lost: BTreeMap<&'static str, u64>,
}

impl Status {
    /// Connections are decided.
    fn stands(&self) -> bool {
        program::GATE.iter().all(|hook| self.attached.get(hook) == Some(&true))
    }

    fn is_whole(&self) -> bool {
        self.stands() && self.messages_followed == self.messages_wanted
    }
}

/// Used and permitted in one window.
#[derive(Serialize, Clone, Copy)]
struct Usage {
    used: u64,
    limit: Option<u32>,
}

/// The same, with the unit and the window it is counted in.
#[derive(Serialize)]
struct LimitUsage {
    unit: &'static str,
    window: &'static str,
    #[serde(flatten)]
    usage: Usage,
}

#[derive(Serialize)]
struct HostStatus {
    /// Connections.
    hour: Usage,
    day: Usage,
    /// Every unit and window, those without a limit included.
    limits: Vec<LimitUsage>,
    #[serde(flatten)]
    conversations: Conversations,
}

/// A limit that several accounts share.
#[derive(Serialize)]
struct SharedStatus {
    level: &'static str,
    name: String,
    /// Every unit and window that is limited.
    limits: Vec<LimitUsage>,
}

#[derive(Serialize)]
struct AccountStatus {
    account: String,
    rule: &'static str,
    /// Connections, where they are limited.
    hour: Option<Usage>,
    day: Option<Usage>,
    /// Every unit and window that is limited.
    limits: Vec<LimitUsage>,
    /// Connections since the gate was first put in force, by route and verdict.
    remote: BTreeMap<&'static str, u64>,
    local: BTreeMap<&'static str, u64>,
    /// Executions of sendmail.
    pipe: BTreeMap<&'static str, u64>,
    /// On all routes together, and on each.
    #[serde(flatten)]
    conversations: Conversations,
    by_route: BTreeMap<&'static str, Conversations>,
    brake: Option<BrakeStatus>,
}

/// The failure brake of an account whose plan has one.
#[derive(Serialize, Clone, Copy)]
struct BrakeStatus {
    holds: bool,
    /// Of the messages of the last hour; null where none had an outcome.
    failed_percent: Option<f64>,
}

pub(super) fn status(path: &Path, as_json: bool) -> Result<Code> {
    let lenient = lenient::load(path);
    let pins = Pins::new(&lenient.paths.pins);
    pins.require_ours()?;
    let maps = Maps::open(&pins)?;
    // Only the names of containers need the hierarchy, so a host without one still has a status.
    let choice = lenient.config.map(|c| c.cgroup).unwrap_or_default();
    let naming = Naming::new(Hierarchy::find(&choice).ok());
    let status = collect::collect(&pins, &maps, &naming, List::read(&lenient.paths.state))?;
    if as_json {
        output::json(&status)?;
    } else {
        output::line(&show::show(&status))?;
    }
    Ok(if status.is_whole() { Code::Fine } else { Code::No })
}
