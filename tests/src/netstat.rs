//! The kernel's own counters of a network namespace: witnesses that belong to neither side.

use crate::{Must, Netns};

/// One counter of `/proc/net/netstat`, such as `("TcpExt", "TCPFastOpenPassive")`.
#[track_caller]
pub fn counter(ns: Option<&Netns>, group: &str, name: &str) -> u64 {
    // Not /proc/net, which shows the namespace of the process's first thread.
    let read = || std::fs::read_to_string("/proc/thread-self/net/netstat");
    let text = ns.map_or_else(read, |ns| ns.run(read)).must("cannot read the network counters");
    find(&text, group, name).must(format_args!("this kernel has no counter {group} {name}"))
}

/// The file has two lines per group: names, then values.
fn find(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let at = lines.next()?.split(' ').position(|known| known == name)?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "TcpExt: A B C\nTcpExt: 1 2 3\nIpExt: B\nIpExt: 9\n";
        assert_eq!(find(text, "TcpExt", "B"), Some(2));
        assert_eq!(find(text, "IpExt", "B"), Some(9));
        assert_eq!(find(text, "IpExt", "C"), None);
    }
}
