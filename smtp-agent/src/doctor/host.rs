//! Files and processes of the host, below a root that is `/` but for tests.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, Metadata},
    io,
    path::{Component, Path, PathBuf},
};

use procfs::process::all_processes_with_root;

use crate::{accounts::label::printable, neighbours::files::Text};

/// Links in a row, as the kernel counts them (path_resolution(7)).
const MOST_LINKS: usize = 40;

pub(super) struct Host {
    root: PathBuf,
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
    pub(super) processes: Vec<Process>,
}

/// A process, as far as we may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Safe to print.
    pub(super) name: String,
    /// `None` where it may not be read.
    pub(super) exe: Option<PathBuf>,
    pub(super) uids: BTreeSet<u32>,
}

impl Host {
    pub(super) fn at(root: &Path) -> Self {
        let mut host = Self { root: root.into(), users: HashMap::new(), groups: HashMap::new(), processes: Vec::new() };
        host.users = host.ids("/etc/passwd");
        host.groups = host.ids("/etc/group");
        host.processes = processes(&root.join("proc"));
        host
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a path of the host is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file of configuration; `None` where there is none or it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<Text> {
        Text::read(&self.root, Path::new(path))?.ok()
    }

    /// The names in a directory in their order.
    pub(super) fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    pub(super) fn uid(&self, user: &str) -> Option<u32> {
        self.users.get(user).copied()
    }

    pub(super) fn gid(&self, group: &str) -> Option<u32> {
        self.groups.get(group).copied()
    }

    pub(super) fn user(&self, uid: u32) -> String {
        let named = self.users.iter().filter(|(_, id)| **id == uid).map(|(name, _)| name).min();
        named.map_or_else(|| uid.to_string(), |name| printable(name.as_bytes()))
    }

    pub(super) fn group(&self, gid: u32) -> String {
        let named = self.groups.iter().filter(|(_, id)| **id == gid).map(|(name, _)| name).min();
        named.map_or_else(|| gid.to_string(), |name| printable(name.as_bytes()))
    }

    /// Where a path leads: every link on the way, and what is at its end. Links are those of the root.
    pub(super) fn follow(&self, path: &str) -> io::Result<(Vec<PathBuf>, Metadata)> {
        let mut way = vec![PathBuf::from(path)];
        loop {
            let last = &way[way.len() - 1];
            let full = self.root.join(last.strip_prefix("/").unwrap_or(last));
            let found = full.symlink_metadata()?;
            if !found.is_symlink() {
                return Ok((way, found));
            }
            if way.len() > MOST_LINKS {
                return Err(io::Error::other("its symbolic links lead in circles"));
            }
            let target = fs::read_link(&full)?;
            let next = plain(&last.parent().unwrap_or(Path::new("/")).join(target));
            way.push(next);
        }
    }

    /// `NAME:x:ID` lines, as passwd(5) and group(5) have them.
    fn ids(&self, path: &str) -> HashMap<String, u32> {
        let text = self.text(path).map(|text| text.text).unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _) = (fields.next()?, fields.next()?);
            Some((name.to_owned(), fields.next()?.parse().ok()?))
        });
        lines.collect()
    }
}

/// The same path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Those of this host's own network. Containers have mail servers and a nobody of their own, which are not this host's.
/// Processes end while they are looked at: what is gone is left out.
fn processes(proc: &Path) -> Vec<Process> {
    let Ok(all) = all_processes_with_root(proc) else { return Vec::new() };
    let network = |process: &str| fs::read_link(proc.join(process).join("ns/net")).ok();
    let own = network("self");
    let mut found: Vec<_> = all
        .flatten()
        .filter_map(|process| {
            let theirs = network(&process.pid().to_string());
            if theirs.is_some() && theirs != own {
                return None;
            }
            let status = process.status().ok()?;
            let name = printable(status.name.as_bytes());
            let uids = BTreeSet::from([status.ruid, status.euid]);
            Some(Process { pid: process.pid(), name, exe: process.exe().ok(), uids })
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}
