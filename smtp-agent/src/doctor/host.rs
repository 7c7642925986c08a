//! Files and processes of the host, below a root that is `/` but for tests.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
};

use procfs::process::all_processes_with_root;

use crate::{
    accounts::label::printable,
    neighbours::{
        files::Text,
        way::{Way, within},
    },
};

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

    /// The groups of a user, primary and supplementary.
    pub(super) fn groups_of(&self, user: &str) -> Vec<u32> {
        let text = |path| self.text(path).map(|text| text.text).unwrap_or_default();
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let passwd = text("/etc/passwd").lines().map(fields).find(|line| line[0] == user).into_iter();
        let primary = passwd.filter_map(|line| line.get(3)?.parse().ok());
        let is_member =
            |line: &Vec<String>| line.get(3).is_some_and(|members| members.split(',').any(|one| one == user));
        let group = text("/etc/group");
        let more = group.lines().map(fields).filter(is_member).filter_map(|line| line.get(2)?.parse().ok());
        primary.chain(more).collect()
    }

    /// Where a path leads, with whatever is passed on the way. Links are those of the root.
    pub(super) fn follow(&self, path: &str) -> io::Result<Way> {
        Way::follow(&self.root, Path::new(path)).map_err(|e| match e.raw_os_error() {
            Some(libc::ELOOP) => io::Error::other("its symbolic links lead in circles"),
            _ => e,
        })
    }

    /// What is at a path on which there are no links.
    pub(super) fn look(&self, path: &Path) -> Option<Metadata> {
        within(&self.root, path).symlink_metadata().ok()
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
