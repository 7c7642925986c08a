//! What the store is told: attempts, ends of sessions, and how high the kernel's counters stand.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};
use smtp_common::{
    connection::Route,
    counter::{Reason, Verdict},
    tally::{SessionOutcome, Unit},
};

use crate::attribution::Culprit;

/// Milliseconds of the wall clock since 1970.
pub type Millis = i64;

#[derive(Debug, Clone)]
pub enum Record {
    Attempt(Box<Attempt>),
    Session(Box<SessionEnd>),
    Counters(Vec<Counter>, Millis),
    /// What is to be put back after a reboot.
    Windows(Box<Windows>),
    /// What the DNS says of addresses.
    Hosts(Vec<Host>),
}

/// What the DNS calls an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub address: IpAddr,
    /// Lower case. `None`: it has no name that can be believed.
    pub name: Option<String>,
    pub how: Named,
    pub asked: Millis,
}

/// How the name of an address is known. The number lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Named {
    /// It is not.
    Not = 0,
    /// The DNS gave no answer: it is asked again soon.
    Failed = 1,
    /// Its PTR record, and an address record of that name that leads back.
    Ptr = 2,
    /// It takes the mail of these domains: their MX leads to it.
    Mx = 3,
}

impl Named {
    pub fn from_number(number: i64) -> Self {
        let all = [Self::Failed, Self::Ptr, Self::Mx];
        all.into_iter().find(|how| *how as i64 == number).unwrap_or(Self::Not)
    }

    /// What a destination of this name is summed under: of a name by PTR the domain that somebody has registered.
    pub fn domain(self, name: &str) -> &str {
        if self == Self::Ptr { psl::domain_str(name).unwrap_or(name) } else { name }
    }
}

/// The kernel's windows and tripped brakes, by the wall clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    pub time: Millis,
    /// /proc/sys/kernel/random/boot_id
    pub boot: String,
    pub windows: Vec<Window>,
    /// Kind and number of each account, in the order in which they were first seen.
    pub accounts: Vec<(u32, u64)>,
    pub brakes: Vec<Brake>,
    /// Those of the accounts whose numbers are of this boot only, the first seen first.
    pub containers: Vec<Container>,
}

/// A failure brake that was tripped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    pub kind: u32,
    pub id: u64,
    pub at: Millis,
    /// `smtp_common::rule::plan_hash` of the plan's name.
    pub plan: u32,
}

/// What a container is known by in any boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub kind: u32,
    pub id: u64,
    /// Hash of its cgroup's path, or of its namespace's name.
    pub identity: u64,
    pub name: String,
}

/// One window of one account, or of what accounts share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub kind: u32,
    pub id: u64,
    /// Numbers of `smtp_common::window::{Lane, Span}`.
    pub lane: u32,
    pub span: u32,
    /// When at the latest, and how much.
    pub charges: Vec<(Millis, u32)>,
}

/// Whose it is, and who did it.
#[derive(Debug, Clone, PartialEq)]
pub struct Who {
    /// As metrics call the account.
    pub account: String,
    /// Kind of the account, a number of `smtp_common::connection::kind`.
    pub kind: u32,
    pub uid: u32,
    pub tgid: u32,
    /// Name of the thread: all that is known of a process that has gone.
    pub comm: String,
    /// The plan it is held to, or the panel's.
    pub plan: Option<String>,
    pub culprit: Arc<Culprit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    pub address: IpAddr,
    pub port: u16,
    pub route: Route,
}

/// A connection, a message or a recipient that was decided upon. Of the last two only those that could not pass are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub time: Millis,
    pub who: Who,
    pub target: Target,
    /// `None`: a connection.
    pub unit: Option<Unit>,
    pub verdict: Verdict,
    pub reason: Reason,
}

/// A session has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionEnd {
    pub time: Millis,
    pub who: Who,
    pub target: Target,
    pub outcome: SessionOutcome,
    /// Accepted, deferred, rejected, unknown.
    pub messages: [u32; 4],
    /// Accepted, deferred, rejected.
    pub recipients: [u32; 3],
    pub milliseconds: u64,
    /// Payload octets to the server.
    pub bytes: u64,
}

/// What a counter of the kernel counts. [`what::KEPT`] and above are kept to be put back after a reboot and are in no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterId {
    /// Kind and number of the account in the kernel: labels may change, these do not.
    pub kind: u32,
    pub id: u64,
    /// One of [`what`].
    pub what: u8,
    pub route: u8,
    pub port: u16,
    /// Verdict or outcome.
    pub which: u8,
}

/// A counter and how high it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    pub id: CounterId,
    pub account: Arc<str>,
    pub count: u64,
}

/// Values of [`CounterId::what`].
pub mod what {
    /// By verdict.
    pub const CONNECTIONS: u8 = 0;
    /// By outcome.
    pub const SESSIONS: u8 = 1;
    pub const MESSAGES: u8 = 2;
    pub const RECIPIENTS: u8 = 3;
    /// From here on: in no report; this plus the number of a family of tallies.
    pub const KEPT: u8 = 16;
}

impl Record {
    /// When it happened.
    pub fn time(&self) -> Millis {
        match self {
            Self::Attempt(attempt) => attempt.time,
            Self::Session(end) => end.time,
            Self::Counters(_, time) => *time,
            Self::Windows(windows) => windows.time,
            Self::Hosts(hosts) => hosts.last().map_or(0, |host| host.asked),
        }
    }
}

impl Attempt {
    /// A limit was used up.
    pub fn is_over_limit(&self) -> bool {
        self.verdict.is_stop() && self.reason.level().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_summed_under_what_somebody_has_registered() {
        for (name, wanted) in [
            ("mail-ed1-f26.google.com", "google.com"),
            ("mx.example.co.uk", "example.co.uk"),
            // Whoever rents it is another than its neighbour.
            ("ec2-192-0-2-1.compute-1.amazonaws.com", "ec2-192-0-2-1.compute-1.amazonaws.com"),
            ("co.uk", "co.uk"),
            ("host.internal.test", "internal.test"),
        ] {
            assert_eq!(Named::Ptr.domain(name), wanted);
        }
        assert_eq!(Named::Mx.domain("mx.big.example, same.example"), "mx.big.example, same.example");
    }
}
