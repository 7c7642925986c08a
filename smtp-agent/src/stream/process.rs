//! What /proc still knows of the process behind an event.

use std::{fs, path::PathBuf};

use crate::accounts::{container::path_from_proc, label::printable};

/// Clock ticks per second in /proc/PID/stat: `USER_HZ`, 100 on every Linux architecture.
const NANOS_PER_TICK: u64 = 10_000_000;

/// Longest command line that is kept, in bytes.
const COMMAND_LIMIT: usize = 4096;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Process {
    pub exe: Option<String>,
    pub command: Option<Vec<String>>,
    pub cgroup: Option<String>,
}

impl Process {
    /// Reads what is left of the process `tgid` that was alive at `time` (nanoseconds of the boot clock). A
    /// process that began later has only inherited the number and is not this one.
    pub fn read(tgid: u32, time: u64) -> Self {
        let dir = PathBuf::from(format!("/proc/{tgid}"));
        let same = || started(&fs::read_to_string(dir.join("stat")).ok()?).filter(|&start| start <= time);
        if same().is_none() {
            return Self::default();
        }
        let found = Self {
            exe: fs::read_link(dir.join("exe")).ok().map(|p| printable(p.as_os_str().as_encoded_bytes())),
            command: fs::read(dir.join("cmdline")).ok().map(|bytes| split(&bytes)).filter(|c| !c.is_empty()),
            cgroup: fs::read_to_string(dir.join("cgroup")).ok().and_then(|text| path_from_proc(&text)),
        };
        // The number may have passed on between the reads.
        if same().is_some() { found } else { Self::default() }
    }
}

/// Start of a process in nanoseconds of the boot clock: field 22 of its stat (proc(5)), counted behind the
/// name, which may itself hold spaces and parentheses.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    ticks.checked_mul(NANOS_PER_TICK)
}

fn split(bytes: &[u8]) -> Vec<String> {
    let bytes = &bytes[..bytes.len().min(COMMAND_LIMIT)];
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() { Vec::new() } else { bytes.split(|&b| b == 0).map(printable).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sys::boot_nanos;

    #[test]
    fn this_process_is_found_and_its_successor_in_name_is_not() {
        let own = std::process::id();
        let found = Process::read(own, boot_nanos());
        assert_eq!(found.exe.as_deref(), std::env::current_exe().unwrap().to_str());
        assert!(found.command.unwrap()[0].contains("smtp_agent"));
        assert_eq!(Process::read(own, 1), Process::default(), "an event from before it began is not its");
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(started(stat), Some(4242 * NANOS_PER_TICK));
        assert_eq!(started("7 (a"), None);
    }

    #[test]
    fn a_command_line_is_split_at_nul_and_escaped() {
        assert_eq!(split(b"php\0-r\0mail(\"\n\");\0"), ["php", "-r", "mail(\"\\n\");"]);
        assert_eq!(split(b""), Vec::<String>::new());
        assert_eq!(split(b"a\0\0b\0"), ["a", "", "b"]);
    }
}
