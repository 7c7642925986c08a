//! What /proc says of a process, as long as it lives.

use std::{
    fs::{self, File},
    io::Read,
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
    path::PathBuf,
};

use smtp_common::portrait::ProcessKey;

/// Clock ticks per second in /proc/PID/stat: `USER_HZ`, 100 on every Linux architecture.
const NANOS_PER_TICK: u64 = 10_000_000;

/// Longest command line and environment that are read, in bytes.
const LIMIT: u64 = 64 << 10;

/// A process that was alive when it was opened. Its number may be used again: the open directory stays that of this
/// process, and is empty when that has ended (`proc_pid_permission` and `get_proc_task`, fs/proc/base.c).
pub struct Living {
    dir: File,
}

impl Living {
    /// `None` when it has ended, whoever has its number now.
    pub fn open(process: ProcessKey) -> Option<Self> {
        Self::begun(process.tgid, |ticks| ticks == process.start / NANOS_PER_TICK)
    }

    /// The process that has this number, if it had begun by `time` (nanoseconds of the boot clock). One that began later has
    /// only inherited the number.
    pub fn from_before(tgid: u32, time: u64) -> Option<Self> {
        Self::begun(tgid, |ticks| ticks.saturating_mul(NANOS_PER_TICK) <= time)
    }

    /// The process that has this number, if it began at the right time, in ticks of the boot clock.
    fn begun(tgid: u32, is_it: impl FnOnce(u64) -> bool) -> Option<Self> {
        let found = Self { dir: File::open(format!("/proc/{tgid}")).ok()? };
        let stat = fs::read(found.path("stat")).ok()?;
        is_it(ticks(&stat)?).then_some(found)
    }

    /// A file below its directory.
    pub fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{file}", self.dir.as_raw_fd()))
    }

    fn read(&self, file: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(file)).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    pub fn exe(&self) -> Option<Vec<u8>> {
        Some(fs::read_link(self.path("exe")).ok()?.into_os_string().into_vec())
    }

    pub fn cwd(&self) -> Option<Vec<u8>> {
        Some(fs::read_link(self.path("cwd")).ok()?.into_os_string().into_vec())
    }

    /// Its real uid.
    pub fn uid(&self) -> Option<u32> {
        let status = self.read("status")?;
        let real = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
        std::str::from_utf8(real).ok()?.split_ascii_whitespace().next()?.parse().ok()
    }

    /// The file that it has open under this number.
    pub fn open_file(&self, number: u32) -> Option<Vec<u8>> {
        Some(fs::read_link(self.path(&format!("fd/{number}"))).ok()?.into_os_string().into_vec())
    }

    /// The command line as the process shows it; `None` for a kernel thread.
    pub fn command_line(&self) -> Option<Vec<u8>> {
        self.read("cmdline").filter(|bytes| !bytes.is_empty())
    }

    pub fn cgroups(&self) -> Option<String> {
        self.read("cgroup").and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// A variable of the environment it was started with.
    pub fn variable(&self, name: &str) -> Option<Vec<u8>> {
        let environment = self.read("environ")?;
        let of = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
        environment.split(|b| *b == 0).find_map(of)
    }
}

/// Start of a process in ticks of the boot clock: field 22 of its stat (proc(5)), counted behind the name, which may
/// itself hold spaces and parentheses.
fn ticks(stat: &[u8]) -> Option<u64> {
    let stat = String::from_utf8_lossy(stat);
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ProcessKey {
        let stat = fs::read("/proc/self/stat").unwrap();
        ProcessKey { start: ticks(&stat).unwrap() * NANOS_PER_TICK, tgid: std::process::id(), _pad: 0 }
    }

    #[test]
    fn this_process_is_found_and_its_successor_in_number_is_not() {
        let living = Living::open(own()).unwrap();
        assert_eq!(living.exe().unwrap(), std::env::current_exe().unwrap().into_os_string().into_vec());
        assert!(!living.command_line().unwrap().is_empty());
        assert_eq!(living.uid().unwrap(), nix::unistd::getuid().as_raw());
        assert!(living.variable("PATH").is_some() && living.variable("PAT").is_none());
        assert!(Living::open(ProcessKey { start: own().start + NANOS_PER_TICK, ..own() }).is_none());
    }

    #[test]
    fn what_has_ended_says_nothing_more() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let stat = fs::read(format!("/proc/{}/stat", child.id())).unwrap();
        let key = ProcessKey { start: ticks(&stat).unwrap() * NANOS_PER_TICK, tgid: child.id(), _pad: 0 };
        let living = Living::open(key).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((living.exe(), living.command_line(), living.cgroups()), (None, None, None));
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(ticks(b"7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9"), Some(4242));
        assert_eq!(ticks(b"7 (a"), None);
    }
}
