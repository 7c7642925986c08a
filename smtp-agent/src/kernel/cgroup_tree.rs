//! Every cgroup of the host by its path: of the v2 hierarchy, and of systemd's own v1 one where there is such.
//!
//! On a hybrid host (systemd's `unified_cgroup_hierarchy=0`, or none of systemd) processes may be in the root of v2 and
//! have their names in `name=systemd` alone.

use std::{
    fs::{self, DirEntry},
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
};

use smtp_common::{connection::Cgroup, names::CgroupEvent};

use super::cgroup::{Hierarchy, mount_of_v1, path_by_id};

/// Deepest level that is looked at, as the probe does.
const DEPTH: usize = 64;

/// Children from which on it is cheaper to ask the parent whether any has children of its own.
const MANY: usize = 8;

#[derive(Debug, Clone)]
pub struct Tree {
    v2: PathBuf,
    v1: Option<V1>,
}

#[derive(Debug, Clone)]
struct V1 {
    mount: PathBuf,
    hierarchy: u32,
}

impl Tree {
    pub fn of(hierarchy: &Hierarchy) -> Self {
        let number = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| hierarchy_of_systemd(&text));
        let v1 = number.zip(mount_of_v1()).map(|(hierarchy, mount)| V1 { mount, hierarchy });
        Self { v2: hierarchy.root.clone(), v1 }
    }

    /// Number of the v1 hierarchy `name=systemd`.
    pub fn hierarchy(&self) -> Option<u32> {
        self.v1.as_ref().map(|v1| v1.hierarchy)
    }

    /// Every cgroup but the roots, with its path below the root.
    pub fn all(&self) -> Vec<(Cgroup, String)> {
        let mut found = Vec::new();
        walk(&self.v2, &mut String::new(), 0, &mut |id, path| found.push((Cgroup::v2(id), path.to_owned())));
        if let Some(v1) = &self.v1 {
            walk(&v1.mount, &mut String::new(), 0, &mut |id, path| {
                found.push((Cgroup { id, v1: true }, path.to_owned()))
            });
        }
        found
    }

    /// The cgroup an event tells of, unless it has gone again.
    pub fn of_event(&self, event: &CgroupEvent) -> Option<(Cgroup, String)> {
        let (mount, v1) = match (&self.v1, event.hierarchy) {
            (_, 0) => (&self.v2, false),
            (Some(v1), number) if number == v1.hierarchy => (&v1.mount, true),
            _ => return None,
        };
        let path = path_by_id(mount, event.id)?;
        Some((Cgroup { id: event.id, v1 }, path.to_str()?.to_owned()))
    }

    /// Whether a cgroup that was found is still there.
    pub fn is_there(&self, cgroup: Cgroup) -> bool {
        let mount = if cgroup.v1 { self.v1.as_ref().map(|v1| &v1.mount) } else { Some(&self.v2) };
        mount.is_some_and(|mount| path_by_id(mount, cgroup.id).is_some())
    }

    /// The cgroups of a path: that of v2, then that of v1, as far as they are there.
    pub fn find(&self, path: &str) -> Vec<Cgroup> {
        let id = |mount: &Path| super::cgroup::id(&mount.join(path.trim_start_matches('/'))).ok();
        let of_v2 = id(&self.v2).map(Cgroup::v2);
        let of_v1 = self.v1.as_ref().and_then(|v1| Some(Cgroup { id: id(&v1.mount)?, v1: true }));
        of_v2.into_iter().chain(of_v1).collect()
    }
}

/// Directories below one, with their inode numbers, which are the cgroups' ids. What cannot be read, or is not UTF-8, is
/// left out: no pattern can mean it.
///
/// Most cgroups have none below them, and their dozens of files need not be listed to see it.
fn walk(directory: &Path, path: &mut String, depth: usize, each: &mut dyn FnMut(u64, &str)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let is_directory = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let children: Vec<DirEntry> = entries.flatten().filter(is_directory).collect();
    let is_flat = children.len() > MANY && descendants(directory) == Some(children.len());
    for child in children {
        let name = child.file_name();
        let Some(name) = name.to_str() else { continue };
        let length = path.len();
        path.push('/');
        path.push_str(name);
        each(child.ino(), path);
        if depth < DEPTH && !is_flat && !is_leaf(&child) {
            walk(&child.path(), path, depth + 1, each);
        }
        path.truncate(length);
    }
}

/// How many cgroups lie below one, at any depth (`cgroup.stat`, v2 only, Linux 4.14).
fn descendants(cgroup: &Path) -> Option<usize> {
    let stat = fs::read_to_string(cgroup.join("cgroup.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("nr_descendants ")?.parse().ok())
}

/// Whether a directory has none below it: each would be one link more than its own two (`kernfs_refresh_inode`; so it is
/// with most file systems, and those that do not count say 1).
fn is_leaf(entry: &DirEntry) -> bool {
    entry.metadata().is_ok_and(|directory| directory.nlink() == 2)
}

/// From the text of /proc/self/cgroup (cgroups(7)).
fn hierarchy_of_systemd(cgroup: &str) -> Option<u32> {
    cgroup.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        rest.starts_with("name=systemd:").then(|| number.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_own_hierarchy_is_found_by_its_name() {
        assert_eq!(hierarchy_of_systemd("12:pids:/\n1:name=systemd:/user.slice\n0::/\n"), Some(1));
        assert_eq!(hierarchy_of_systemd("0::/user.slice/name=systemd:x\n"), None);
        assert_eq!(hierarchy_of_systemd(""), None);
    }

    #[test]
    fn a_walk_names_what_is_below_and_not_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/file"), "").unwrap();
        let mut found = Vec::new();
        walk(root.path(), &mut String::new(), 0, &mut |id, path| found.push((id, path.to_owned())));
        found.sort_by(|a, b| a.1.cmp(&b.1));
        let id = |path: &str| super::super::cgroup::id(&root.path().join(path)).unwrap();
        assert_eq!(found, [(id("a"), "/a".to_owned()), (id("a/b"), "/a/b".to_owned())]);
    }

    #[test]
    fn a_walk_among_many_children_misses_none_below_them() {
        let root = tempfile::tempdir().unwrap();
        let children = 2 * MANY;
        (0..children).for_each(|number| fs::create_dir(root.path().join(number.to_string())).unwrap());
        let found = || {
            let mut found = 0;
            walk(root.path(), &mut String::new(), 0, &mut |_, _| found += 1);
            found
        };
        let tell =
            |count: usize| fs::write(root.path().join("cgroup.stat"), format!("nr_descendants {count}\n")).unwrap();
        assert_eq!(found(), children, "a v1 cgroup does not tell");
        tell(children);
        assert_eq!(found(), children);
        fs::create_dir_all(root.path().join("3/inner/most")).unwrap();
        tell(children + 2);
        assert_eq!(found(), children + 2);
    }
}
