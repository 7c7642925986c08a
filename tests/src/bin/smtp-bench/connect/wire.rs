//! Where connections go: a wire into a void, and an address without a way to it.

use smtp_tests::{Must, Netns, Veth, process};
use std::{fs, net::Ipv4Addr, process::Command, time::Duration};

/// An Ethernet address that nobody has: the far end drops what is sent to it at once (`ip_rcv_core`,
/// PACKET_OTHERHOST), and the near end never has to ask for it.
const NOBODY: &str = "02:00:00:00:00:99";

/// A wire on which every packet leaves and none is answered.
pub(crate) struct Void {
    veth: Veth,
}

impl Void {
    /// From the host's own network namespace.
    pub(crate) fn of_host() -> Self {
        let void = Self { veth: Veth::between_host_and(&Netns::new()) };
        ip(&["neigh", "replace", &void.neighbour(), "lladdr", NOBODY, "dev", void.veth.name(), "nud", "permanent"])
            .must("cannot set a neighbour");
        void
    }

    /// From a namespace of the bench's own.
    pub(crate) fn of(near: &Netns) -> Self {
        let void = Self { veth: Veth::between(near, &Netns::new()) };
        near.ip(&format!(
            "neigh replace {} lladdr {NOBODY} dev {} nud permanent\n",
            void.neighbour(),
            void.veth.name()
        ));
        void
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.veth.far.v4
    }

    fn neighbour(&self) -> String {
        self.address().to_string()
    }

    /// Packets that have left by this wire, as the namespace of the caller counts them.
    pub(crate) fn packets_sent(&self) -> u64 {
        let text = fs::read_to_string("/proc/thread-self/net/dev").must("cannot read the counters of network cards");
        sent_by(self.veth.name(), &text)
            .must(format_args!("/proc/net/dev does not list {}, or in another format", self.veth.name()))
    }
}

/// The tenth number of a card's line in /proc/net/dev is the number of packets sent.
fn sent_by(card: &str, net_dev: &str) -> Option<u64> {
    let numbers = net_dev.lines().find_map(|line| line.trim().strip_prefix(card)?.strip_prefix(':'))?;
    numbers.split_ascii_whitespace().nth(9)?.parse().ok()
}

/// An address the host refuses to route to, until dropped.
pub(crate) struct Unreachable {
    address: Ipv4Addr,
}

impl Unreachable {
    pub(crate) fn new() -> Self {
        // TEST-NET-3 (RFC 5737): documents use it, hosts do not. Another bench may be running, so several are tried.
        Self::one_of((1..=20).map(|host| Ipv4Addr::new(203, 0, 113, host)))
    }

    /// The first of these that has no such route yet.
    pub(crate) fn one_of(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let mut last = String::new();
        for address in addresses {
            match ip(&["route", "add", "unreachable", &address.to_string()]) {
                Ok(()) => return Self { address },
                Err(error) => last = error,
            }
        }
        panic!("cannot add an unreachable route to any address of the bench: {last}");
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Drop for Unreachable {
    fn drop(&mut self) {
        if let Err(error) = ip(&["route", "del", "unreachable", &self.address.to_string()]) {
            eprintln!("{error}");
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = process::output(Command::new("ip").args(arguments), Duration::from_secs(10));
    if output.code == 0 { Ok(()) } else { Err(format!("ip {}: {}", arguments.join(" "), output.stderr.trim())) }
}

#[cfg(test)]
mod tests {
    use super::sent_by;

    #[test]
    fn the_packets_sent_are_read_from_the_right_column_and_card() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
                    lo:      1       2    0    0    0     0          0         0        3       4    0\n  \
                    ab12:     10      20    0    0    0     0          0         0       30      40    0\n   \
                    ab1:100 200 0 0 0 0 0 0 300 400 0\n";
        assert_eq!(sent_by("ab1", text), Some(400));
        assert_eq!(sent_by("ab12", text), Some(40));
        assert_eq!(sent_by("ab", text), None);
    }
}
