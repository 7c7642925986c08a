//! What /proc still knows of the process behind an event.

use crate::{
    accounts::{container::path_from_proc, label::printable},
    attribution::living::Living,
};

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
        let Some(living) = Living::from_before(tgid, time) else { return Self::default() };
        Self {
            exe: living.exe().map(|path| printable(&path)),
            command: living.command_line().map(|bytes| split(&bytes)).filter(|c| !c.is_empty()),
            cgroup: living.cgroups().and_then(|text| path_from_proc(&text)),
        }
    }
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
    fn a_command_line_is_split_at_nul_and_escaped() {
        assert_eq!(split(b"php\0-r\0mail(\"\n\");\0"), ["php", "-r", "mail(\"\\n\");"]);
        assert_eq!(split(b""), Vec::<String>::new());
        assert_eq!(split(b"a\0\0b\0"), ["a", "", "b"]);
    }
}
