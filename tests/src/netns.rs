//! Network namespaces of one test each.

use crate::{Must, process, scratch};
use nix::sched::{CloneFlags, setns, unshare};
use std::{
    fs::File,
    io::{Seek, Write},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    panic::resume_unwind,
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

/// A network namespace without a name: it lives as long as this handle, its clones and the processes in
/// it, so not even a killed test leaves one behind.
#[derive(Clone)]
pub struct Netns {
    file: Arc<File>,
}

impl Netns {
    /// A new namespace with `lo` up.
    #[track_caller]
    pub fn new() -> Self {
        let made = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).must("cannot make a network namespace; tests need root");
            File::open("/proc/thread-self/ns/net").must("cannot open the new network namespace")
        });
        let ns = Self { file: Arc::new(made) };
        ns.ip("link set lo up");
        ns
    }

    /// Runs `f` on a thread inside the namespace. Sockets it makes stay there.
    #[track_caller]
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            setns(&*self.file, CloneFlags::CLONE_NEWNET).must("cannot enter a network namespace; tests need root");
            f()
        })
    }

    /// Has `command` run in this namespace.
    pub fn enter(&self, command: &mut Command) {
        let file = Arc::clone(&self.file);
        let join = move || {
            // SAFETY: `file` lives as long as this closure.
            let fd = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
            Ok(setns(fd, CloneFlags::CLONE_NEWNET)?)
        };
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(join) };
    }

    /// A path that other processes can open to enter the namespace, as long as this handle lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs lines of `ip` commands (each without the leading "ip") in the namespace.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        self.run(|| ip(lines)).must("`ip` failed");
    }

    /// Sets a kernel parameter of the namespace, such as `net.ipv4.tcp_fastopen`.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: &str) {
        // The files under /proc/sys/net are those of the thread's own namespace.
        let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
        self.run(|| std::fs::write(&path, value)).must(format_args!("cannot set {name} to {value}"));
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

/// A thread of its own: a namespace belongs to a thread, and the caller's must stay what it is.
fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(f).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs lines of `ip` commands in the caller's namespace, up to the first that fails.
pub(crate) fn ip(lines: &str) -> Result<(), String> {
    let mut input = tempfile::tempfile().map_err(|error| format!("cannot make a temporary file: {error}"))?;
    input.write_all(lines.as_bytes()).and_then(|()| input.rewind()).map_err(|error| error.to_string())?;
    let mut command = Command::new("ip");
    let output = process::output(command.args(["-batch", "-"]).stdin(input), Duration::from_secs(30));
    if output.code == 0 { Ok(()) } else { Err(format!("ip: {}of\n{lines}", output.stderr)) }
}

/// A number for names and addresses that must be unique on the host; spread over processes, so that two
/// rarely want the same.
pub(crate) fn spread(range: u32) -> u32 {
    std::process::id().wrapping_mul(257).wrapping_add(scratch::number()) % range
}
