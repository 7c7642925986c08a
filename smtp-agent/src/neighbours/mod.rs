//! Who else decides about the ports of this host, and what the two do together.
//!
//! Firewalls and panels have ways of their own to keep SMTP from leaving. `files` and the rooms named after tools read
//! what is configured, `live` asks for the rules in force, `programs` for BPF programs, `local` for the MTA that listens
//! here. Everything is only read. What cannot be read is said, and is never an error: the gate does not depend on it.
//!
//! The order of things, which every sentence here rests on: connect() meets the programs on the cgroup before a packet
//! exists, so netfilter sees only what the gate has passed and charged. A connection that netfilter rejects fails with
//! ECONNREFUSED (EHOSTUNREACH for the ICMP "prohibited" codes), for a blocking connect() up to a second later; one that
//! it drops hangs until the client gives up.
#![forbid(unsafe_code)]

mod command;
mod csf;
pub(crate) mod files;
mod firewalld;
mod imunify;
mod iptables;
mod live;
mod local;
mod nft;
mod programs;
mod rules;
mod say;
#[cfg(test)]
mod tests;
pub(crate) mod way;
mod whm;

use std::path::Path;

use serde::Serialize;

pub use local::{Listener, first_unprivileged_port, local_mta, redirect_warnings, smtp_listeners};
pub use say::render;

use smtp_common::{
    connection::Account,
    rule::{Action, Rule},
};

use crate::{
    config::{Config, OnSoft, PlanRef, Problems, Subject},
    kernel::{attached, cgroup::Hierarchy, pins::Pins},
    policy::Compiled,
};

/// How much a neighbour matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The two contradict each other: one stops or moves what the other lets pass.
    Warning,
    /// Good to know.
    Information,
    /// A place that could not be looked at.
    Unseen,
}

/// Somebody else who decides about connections to the configured ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    pub severity: Severity,
    /// "CSF", "nftables"
    pub who: String,
    /// `file:line: text`, a rule, a program: what makes us believe it. Safe to print.
    pub evidence: Vec<String>,
    /// What the two will do together.
    pub together: String,
}

impl Neighbour {
    fn new(severity: Severity, who: &str, evidence: Vec<String>, together: String) -> Self {
        Self { severity, who: who.to_owned(), evidence, together }
    }

    fn unseen(who: &str, why: impl Into<String>) -> Self {
        let together = "could not be looked at, so whether it decides about these ports is not known".to_owned();
        Self::new(Severity::Unseen, who, vec![why.into()], together)
    }
}

/// What of our own policy decides whether two policies contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    pub ports: Vec<u16>,
    /// Some plan sends the overflow to the local MTA.
    pub redirects: bool,
    /// Whoever is not named may reach no remote server anyway.
    pub only_mta: bool,
}

impl Ours {
    pub fn of(config: &Config) -> Self {
        Self {
            ports: config.ports.clone(),
            redirects: config.plans.iter().any(|plan| plan.on_soft == OnSoft::Redirect),
            only_mta: config.default_plan == PlanRef::Deny,
        }
    }
}

/// Everybody found on this host. Takes as long as `nft` and `iptables-save` do, at most a few seconds.
pub fn of_this_host(config: &Config) -> Vec<Neighbour> {
    let ours = Ours::of(config);
    let root = Path::new("/");
    let mut found = find(root, &ours, &live::Rules::of_this_host(root, &ours.ports));
    match Hierarchy::find(&config.cgroup).and_then(|at| attached::foreign(&Pins::new(&config.paths.pins), &at)) {
        Ok(foreign) => found.extend(programs::neighbours(&foreign)),
        Err(why) => found.push(Neighbour::unseen("BPF programs on the cgroup", why.message)),
    }
    found.sort_by_key(|neighbour| neighbour.severity);
    found
}

/// Those that the files below another root tell of: rules in force are this host's alone.
pub fn below(root: &Path, config: &Config) -> Vec<Neighbour> {
    find(root, &Ours::of(config), &live::Rules::default())
}

/// What stands in the way of `on_soft = "redirect"` on this host, by the policy as compiled for it.
pub fn redirect_problems(config: &Config, compiled: &Compiled) -> Problems {
    if !Ours::of(config).redirects {
        return Problems::default();
    }
    // A limit may hold at other times of the week, so the plan counts and not what it limits now.
    let to_mta = |plan| matches!(plan, PlanRef::Plan(n) if config.plans[n].on_soft == OnSoft::Redirect);
    let by_cgroup = config.rules.iter().any(|entry| matches!(entry.subject, Subject::Cgroup(_)) && to_mta(entry.plan));
    let redirected =
        |rule: &Rule| rule.action == Action::Limited as u8 && (by_cgroup || rule.on_soft == OnSoft::Redirect as u8);
    let rule = |uid| compiled.rules.iter().find(|(account, _)| *account == Account::user(uid)).map(|(_, rule)| rule);
    let root = Path::new("/");
    redirect_warnings(config, &local_mta(root), first_unprivileged_port(root), |uid| {
        !redirected(rule(uid).unwrap_or(&compiled.policy.default))
    })
}

/// Those that the files below `root` and the rules in force tell of.
fn find(root: &Path, ours: &Ours, rules: &live::Rules) -> Vec<Neighbour> {
    let mut found = Vec::new();
    found.extend(csf::find(root, ours));
    found.extend(whm::find(root, ours));
    found.extend(imunify::find(root, ours));
    found.extend(firewalld::find(root, ours));
    let in_force = live::neighbours(rules, ours, &found);
    let configured = found.len();
    for neighbour in in_force {
        // What is configured and what is in force of the same tool is one neighbour.
        let same = |known: &&mut Neighbour| known.who == neighbour.who && known.severity != Severity::Unseen;
        match found[..configured].iter_mut().find(same) {
            Some(known) => known.evidence.extend(neighbour.evidence),
            None => found.push(neighbour),
        }
    }
    found.sort_by_key(|neighbour| neighbour.severity);
    found
}

/// Logs what [`of_this_host`] has found.
pub fn log(found: &[Neighbour]) {
    for Neighbour { severity, who, evidence, together } in found {
        let evidence = evidence.join("; ");
        match severity {
            Severity::Warning => tracing::warn!(evidence, "{who} {together}"),
            Severity::Information | Severity::Unseen => tracing::info!(evidence, "{who} {together}"),
        }
    }
}
