//! The same job in nftables, as a host would have it without the agent.

use super::cases::{EXEMPT, LIMITED_PORTS};
use smtp_tests::{Must, Netns, process};
use std::{
    io::{Seek, Write},
    process::Command,
    time::Duration,
};

/// The ruleset is this one table, and no other is touched.
const TABLE: &str = "inet smtp_bench";

/// Two ways to write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ruleset {
    /// The least that limits anybody: one meter by user.
    Meter,
    /// What the agent does too: an hour and a day for each user and for the host, and counters by user and port.
    Everything,
}

impl Ruleset {
    pub(crate) const ALL: [Self; 2] = [Self::Meter, Self::Everything];

    fn text(self, exhausted: bool) -> String {
        // The burst is how many connections pass before the rate binds.
        let ample = "limit rate over 1000000/second burst 1000000 packets";
        let over = if exhausted { "limit rate over 1/hour burst 1 packets" } else { ample };
        let (sets, rules) = match self {
            Self::Meter => (
                "set hourly { type uid; size 65535; flags dynamic; }",
                format!("meta skuid @exempt accept\n add @hourly {{ meta skuid {over} }} drop"),
            ),
            Self::Everything => (
                "set hourly { type uid; size 65535; flags dynamic; }\n \
                 set daily { type uid; size 65535; flags dynamic; }\n \
                 set seen { type uid . inet_service; size 65535; flags dynamic; counter; }",
                format!(
                    "add @seen {{ meta skuid . tcp dport }}\n meta skuid @exempt accept\n \
                     add @hourly {{ meta skuid {over} }} drop\n add @daily {{ meta skuid {over} }} drop\n \
                     {ample} drop\n {ample} drop"
                ),
            ),
        };
        let ports = LIMITED_PORTS.map(|port| port.to_string()).join(", ");
        format!(
            "table {TABLE} {{
                set ports {{ type inet_service; elements = {{ {ports} }}; }}
                set exempt {{ type uid; elements = {{ 0, {EXEMPT} }}; }}
                {sets}
                chain limited {{
                    {rules}
                }}
                chain output {{
                    type filter hook output priority filter; policy accept;
                    tcp dport @ports tcp flags & (syn | ack) == syn jump limited
                }}
            }}\n"
        )
    }

    /// Puts the ruleset in force in a namespace, with fresh meters.
    pub(crate) fn load(self, ns: &Netns, exhausted: bool) {
        nft(ns, &format!("{}{}", without_table(), self.text(exhausted)));
    }
}

/// Leaves a namespace without our rules.
pub(crate) fn unload(ns: &Netns) {
    nft(ns, &without_table());
}

/// Adding the table first makes the deletion succeed whether it was there or not.
fn without_table() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

fn nft(ns: &Netns, script: &str) {
    let mut input = tempfile::tempfile().must("cannot make a temporary file");
    input.write_all(script.as_bytes()).and_then(|()| input.rewind()).must("cannot write a temporary file");
    let mut command = Command::new("nft");
    ns.enter(&mut command);
    let output = process::output(command.args(["-f", "-"]).stdin(input), Duration::from_secs(10));
    assert!(output.code == 0, "nft refuses the ruleset to compare with: {}\n{script}", output.stderr);
}
