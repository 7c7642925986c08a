//! Cgroups of one test each: of v2, and of systemd's own v1 hierarchy.

use crate::{Must, poll, scratch};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// All our cgroups begin with this, so that those of killed tests can be told and removed.
const PREFIX: &str = "smtp-test";
/// The kernel keeps a cgroup for a moment after its last process has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// The mount point of cgroup v2: at /sys/fs/cgroup, or beside the v1 controllers on a hybrid host.
#[track_caller]
pub fn root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").must("cannot read /proc/self/mountinfo");
    find_root(&mounts, "cgroup2", "").must("no cgroup v2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")
}

/// The mount point of the v1 hierarchy `name=systemd`, as hybrid hosts have it.
#[track_caller]
pub fn systemd_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").must("cannot read /proc/self/mountinfo");
    find_root(&mounts, "cgroup", "name=systemd").must(
        "systemd's v1 hierarchy is not mounted: `mkdir /sys/fs/cgroup/systemd`, then \
         `mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd`",
    )
}

/// mountinfo: id, parent, device, root, mount point, options, optional fields, "-", type, source, options.
fn find_root(mountinfo: &str, kind: &str, option: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (root, mount) = (left.split(' ').nth(3)?, left.split(' ').nth(4)?);
        let mut right = right.split(' ');
        let is_it =
            right.next() == Some(kind) && right.next_back()?.split(',').any(|one| one == option || option.is_empty());
        // A bind mount of a subtree is not the root.
        (is_it && root == "/").then(|| mount.into())
    })
}

/// One cgroup. Dropping it kills the processes in it and below it, and removes them all.
pub struct Cgroup {
    /// The root of its hierarchy.
    root: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// A cgroup of its own, directly below the root.
    #[track_caller]
    pub fn new(prefix: &str) -> Self {
        Self::below(root(), prefix)
    }

    /// One of systemd's v1 hierarchy.
    #[track_caller]
    pub fn of_systemd(prefix: &str) -> Self {
        Self::below(systemd_root(), prefix)
    }

    #[track_caller]
    fn below(root: PathBuf, prefix: &str) -> Self {
        sweep(&root);
        let path = root.join(scratch::name(&format!("{PREFIX}-{prefix}")));
        Self::make(root, path)
    }

    /// A cgroup inside this one. Those that its name leads through are made with it, and go when this one goes.
    #[track_caller]
    pub fn child(&self, name: &str) -> Self {
        if let Some((between, _)) = name.rsplit_once('/') {
            fs::create_dir_all(self.path.join(between)).must(format_args!("cannot make the cgroup {between}"));
        }
        Self::make(self.root.clone(), self.path.join(name))
    }

    #[track_caller]
    fn make(root: PathBuf, path: PathBuf) -> Self {
        fs::create_dir(&path).must(format_args!("cannot make the cgroup {}; tests need root", path.display()));
        Self { root, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as the kernel and systemd write it: from the hierarchy's root, with a leading slash.
    #[track_caller]
    pub fn name(&self) -> String {
        let below = self.path.strip_prefix(&self.root).must("the cgroup is not below its root");
        format!("/{}", below.display())
    }

    /// The number that BPF programs see: the inode of the directory.
    #[track_caller]
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).must(format_args!("{}", self.path.display())).ino()
    }

    /// Processes directly in it.
    #[track_caller]
    pub fn pids(&self) -> Vec<i32> {
        pids(&self.path).must(format_args!("cannot read the processes of {}", self.path.display()))
    }

    /// Moves a process here.
    #[track_caller]
    pub fn take(&self, pid: i32) {
        let procs = self.path.join("cgroup.procs");
        fs::write(&procs, pid.to_string()).must(format_args!("cannot move {pid} to {}", self.path.display()));
    }

    /// Has `command` run in this cgroup, from before its program starts.
    #[track_caller]
    pub fn enter(&self, command: &mut Command) {
        let procs = self.path.join("cgroup.procs");
        let file = File::options().write(true).open(&procs).must(format_args!("cannot open {}", procs.display()));
        let join = move || {
            // SAFETY: the buffer is one byte long; write(2) is async-signal-safe. "0" is the writer itself.
            let written = unsafe { libc::write(file.as_raw_fd(), b"0".as_ptr().cast(), 1) };
            if written == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(join) };
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            eprintln!("cannot remove the cgroup {}: {error}", self.path.display());
        }
    }
}

fn pids(path: &Path) -> io::Result<Vec<i32>> {
    Ok(fs::read_to_string(path.join("cgroup.procs"))?.lines().filter_map(|pid| pid.parse().ok()).collect())
}

/// Kills what runs in a cgroup of ours and removes it with everything below.
fn remove(path: &Path) -> io::Result<()> {
    // Atomic and recursive, from 5.14 on; before, pid by pid in the walk below.
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let mut last = Ok(());
    poll::holds_within(PATIENCE, || {
        last = remove_once(path);
        last.is_ok()
    });
    last
}

fn remove_once(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        remove_once(&entry.path())?;
    }
    for pid in pids(path).unwrap_or_default() {
        // It may have ended since.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the cgroups of test programs that were killed.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if name.starts_with(PREFIX) && scratch::is_orphan(&name) {
            // Another test program may be sweeping too.
            let _ = remove(&root.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::find_root;
    use std::path::Path;

    #[test]
    fn the_root_is_found_on_hybrid_and_on_plain_hosts_and_not_in_bind_mounts() {
        let v1 = "31 23 0:28 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw\n";
        let bind = "40 31 0:38 /a /mnt/a rw - cgroup2 cgroup2 rw\n";
        let hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let named = "42 31 0:39 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let found = |parts: &[&str]| find_root(&parts.concat(), "cgroup2", "");
        let systemd = |parts: &[&str]| find_root(&parts.concat(), "cgroup", "name=systemd");
        assert_eq!(systemd(&[v1, hybrid, named]).as_deref(), Some(Path::new("/sys/fs/cgroup/systemd")));
        assert_eq!(systemd(&[v1, hybrid]), None);
        assert_eq!(found(&[v1, bind, hybrid]).as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(found(&[v1, bind]), None);
    }
}
