//! What a host that sends mail should have looked at: ways that nobody in particular may use, mail servers and their
//! queues, block lists, the sendmail program, and who else decides about the ports.
//!
//! `host` reads files and processes; each of the other rooms looks at one thing and says what it
//! found as [`Finding`]s. Everything is only read, nothing needs a running agent, and what cannot be looked at is said.
#![forbid(unsafe_code)]

mod dnsbl;
mod host;
mod mtas;
mod nobody;
mod php;
mod queue;
mod sendmail;
mod spool;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Serialize;

pub use self::dnsbl::Zone;
use self::host::Host;
use crate::{
    config::{self, Config},
    neighbours::{self, Neighbour, Severity},
};

/// Lists that most servers ask, and that can be asked without an account (b.barracudacentral.org wants one).
pub const ZONES: [&str; 2] = ["zen.spamhaus.org", "bl.spamcop.net"];
/// Waiting messages from which a queue is worth a warning.
pub const THRESHOLD: u64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something to do.
    Warning,
    /// Good to know.
    Note,
    Ok,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Note => "note",
            Self::Ok => "ok",
        }
    }
}

/// Why something could not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gap {
    /// This user may not read it.
    Rights,
    /// No resolver answers.
    Resolver,
    /// It is there and may be read, and reading it fails.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What it is about: "nobody", "queue".
    pub subject: &'static str,
    /// A sentence. Safe to print, as is all that follows.
    pub what: String,
    pub evidence: Vec<String>,
    /// What to do.
    pub advice: Option<String>,
    /// Set where it could not be looked at.
    pub unseen: Option<Gap>,
}

impl Finding {
    fn new(level: Level, subject: &'static str, what: impl Into<String>) -> Self {
        Self { level, subject, what: what.into(), evidence: Vec::new(), advice: None, unseen: None }
    }

    fn because(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn unseen(subject: &'static str, gap: Gap, what: impl Into<String>) -> Self {
        Self { unseen: Some(gap), ..Self::new(Level::Note, subject, what) }
    }
}

/// What is looked at, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// `/`, but for tests.
    pub root: PathBuf,
    /// The configuration, where there is one without errors.
    pub config: Option<Config>,
    /// Block lists to ask; none asks none.
    pub zones: Vec<Zone>,
    /// Whom to ask; without one, those of resolv.conf.
    pub resolver: Option<SocketAddr>,
    /// Addresses of this host.
    pub addresses: Vec<IpAddr>,
    /// Those that were named besides.
    pub named: Vec<IpAddr>,
    pub threshold: u64,
    pub now: SystemTime,
}

/// Everything, the gravest first and otherwise in the order of the rooms.
pub fn examine(options: &Options) -> Vec<Finding> {
    let host = Host::at(&options.root);
    let mut found = nobody::examine(&host, options.config.as_ref(), options.now);
    found.extend(mtas::examine(&host));
    found.extend(queue::examine(&host, options.threshold, options.now));
    found.extend(sendmail::examine(&host, options.config.as_ref()));
    found.extend(dnsbl::examine(&options.root, &options.zones, options.resolver, (&options.addresses, &options.named)));
    found.extend(others(&options.root, options.config.as_ref()));
    found.sort_by_key(|finding| finding.level);
    found
}

/// Who else decides about the ports, as `check` tells it.
fn others(root: &Path, config: Option<&Config>) -> Vec<Finding> {
    // Without a configuration the usual ports are meant.
    let usual = config::parse_str("defaults", "").map(|loaded| loaded.config).ok();
    let Some(config) = config.or(usual.as_ref()) else { return Vec::new() };
    let found = if root == Path::new("/") { neighbours::of_this_host(config) } else { neighbours::below(root, config) };
    if found.is_empty() {
        return vec![Finding::new(Level::Ok, "others", "nobody else was found to decide about the mail ports")];
    }
    found.into_iter().map(other).collect()
}

fn other(neighbour: Neighbour) -> Finding {
    let level = match neighbour.severity {
        Severity::Warning => Level::Warning,
        Severity::Information | Severity::Unseen => Level::Note,
    };
    Finding::new(level, "others", format!("{} {}", neighbour.who, neighbour.together)).because(neighbour.evidence)
}

/// A list of which the first few are shown.
fn few(items: &[String]) -> String {
    const SHOWN: usize = 6;
    let more = items.len().saturating_sub(SHOWN);
    let shown = items[..items.len().min(SHOWN)].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
