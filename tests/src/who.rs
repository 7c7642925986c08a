//! Who a program of the tests shall be: options of its command line, and how it becomes that.

use anyhow::{Context, Result};
use clap::Args;
use nix::{
    sched::{CloneFlags, setns},
    sys::resource,
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use std::{
    fs::{self, File},
    path::PathBuf,
};

#[derive(Clone, Args)]
pub struct Who {
    /// Real, effective and saved uid
    #[arg(long)]
    pub uid: Option<u32>,
    /// Gid, and the only group (default: as the uid, if that is given)
    #[arg(long)]
    pub gid: Option<u32>,
    /// Supplementary groups
    #[arg(long)]
    pub group: Vec<u32>,
    /// Cgroups to join first, one after another
    #[arg(long)]
    pub cgroup: Vec<PathBuf>,
    /// Network namespace to enter first
    #[arg(long)]
    pub netns: Option<PathBuf>,
}

impl Who {
    /// Joins, enters and drops, in the order in which each step still may.
    pub(crate) fn become_it(&self) -> Result<()> {
        let (_, most) = resource::getrlimit(resource::Resource::RLIMIT_NOFILE)?;
        resource::setrlimit(resource::Resource::RLIMIT_NOFILE, most, most).context("cannot raise the file limit")?;
        for dir in &self.cgroup {
            fs::write(dir.join("cgroup.procs"), "0").with_context(|| format!("cannot join {}", dir.display()))?;
        }
        if let Some(path) = &self.netns {
            let ns = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            setns(ns, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
        }
        if let Some(gid) = self.gid.or(self.uid).map(Gid::from_raw) {
            let groups: Vec<Gid> = self.group.iter().copied().map(Gid::from_raw).collect();
            setgroups(&groups).context("cannot set the groups")?;
            setresgid(gid, gid, gid).context("cannot set the gid")?;
        }
        if let Some(uid) = self.uid.map(Uid::from_raw) {
            setresuid(uid, uid, uid).context("cannot set the uid")?;
        }
        Ok(())
    }
}
