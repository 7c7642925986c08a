//! What a policy takes of memory: in the agent, and in the kernel's maps.

use smtp_agent::kernel::sys;
use smtp_common::names::map;
use smtp_tests::{Agent, Must};
use std::{fs, os::fd::AsRawFd};

/// Octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Memory {
    /// Of the agent's process, in RAM now.
    pub(crate) agent: u64,
    /// Of all pinned maps.
    pub(crate) maps: u64,
}

impl Memory {
    pub(crate) fn of(agent: &mut Agent) -> Self {
        let status = format!("/proc/{}/status", agent.pid());
        let text = fs::read_to_string(&status).must(&status);
        let resident = field(&text, "VmRSS:").must(format_args!("{status} has no VmRSS")) * 1024;
        let maps = map::ALL.iter().map(|name| {
            let pin = agent.pins_dir().join(name);
            let opened = sys::open_pin(&pin).must(format_args!("cannot open {}", pin.display()));
            let info = format!("/proc/self/fdinfo/{}", opened.as_raw_fd());
            let text = fs::read_to_string(&info).must(&info);
            field(&text, "memlock:").must(format_args!("the kernel does not tell how much memory {name} takes"))
        });
        Self { agent: resident, maps: maps.sum() }
    }
}

/// The number on a line of a file of /proc.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn numbers_are_read_from_files_of_proc() {
        let text = "VmHWM:\t    900 kB\nVmRSS:\t    812 kB\nmemlock:\t2097152\n";
        assert_eq!((field(text, "VmRSS:"), field(text, "memlock:")), (Some(812), Some(2_097_152)));
        assert_eq!(field(text, "Vm"), None);
    }
}
