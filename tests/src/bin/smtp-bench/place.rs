//! Going from one place to another.
//!
//! One process goes everywhere: processes of their own would differ in the memory they were given, which
//! shows in figures as small as these. A socket belongs for good to the cgroup, the network namespace and
//! the user it was made by, so each place is entered before its sockets are made.

use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns},
    unistd::{Pid, Uid, setresuid},
};
use smtp_tests::{Must, cgroup};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Where and who this process was; it is so again when this is dropped, wherever a panic left it.
pub(crate) struct Home {
    cgroup: PathBuf,
    ns: File,
}

impl Home {
    pub(crate) fn here() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").must("cannot read /proc/self/cgroup");
        let path = text.lines().find_map(|line| line.strip_prefix("0::/")).must("this process is in no cgroup v2");
        let ns = File::open("/proc/thread-self/ns/net").must("cannot open our own network namespace");
        Self { cgroup: cgroup::root().join(path), ns }
    }

    pub(crate) fn back_to_ns(&self) {
        enter_ns(&self.ns);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        become_user(0);
        enter_ns(&self.ns);
        enter_cgroup(&self.cgroup);
    }
}

/// Keeps this process on one processor until dropped.
pub(crate) struct Pinned {
    before: CpuSet,
}

pub(crate) fn pin() -> Pinned {
    let allowed = sched_getaffinity(Pid::from_raw(0)).must("cannot tell the processors we may use");
    // The last: the first one gets most interrupts.
    let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let last = last.must("we may use no processor at all");
    let mut one = CpuSet::new();
    one.set(last).must("cannot name a processor");
    sched_setaffinity(Pid::from_raw(0), &one).must("cannot stay on one processor");
    Pinned { before: allowed }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // They were allowed before.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

pub(crate) fn enter_cgroup(path: &Path) {
    fs::write(path.join("cgroup.procs"), "0").must(format_args!("cannot enter the cgroup {}", path.display()));
}

pub(crate) fn enter_ns(ns: &File) {
    setns(ns, CloneFlags::CLONE_NEWNET).must("cannot enter a network namespace");
}

pub(crate) fn become_user(uid: u32) {
    let (uid, root) = (Uid::from_raw(uid), Uid::from_raw(0));
    setresuid(uid, uid, root).must(format_args!("cannot become user {uid}"));
}
