//! Where the cgroup v2 hierarchy is, and which directory a cgroup id means.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

use crate::{
    config::CgroupChoice,
    exit::{Failure, Result},
};

/// The hierarchy and the directory in it that the gate hangs on.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    /// Root of the mounted hierarchy.
    pub root: PathBuf,
    /// cgroup v2 id of the hierarchy's root.
    pub root_id: u64,
    /// Where the programs are attached: the root, unless the configuration says otherwise.
    pub attach: PathBuf,
}

impl Hierarchy {
    /// Finds the hierarchy where the host has mounted it (unified: /sys/fs/cgroup; hybrid: /sys/fs/cgroup/unified),
    /// else mounts it at `private`, which only the agent uses.
    pub fn find_or_mount(choice: &CgroupChoice, private: &Path) -> Result<Self> {
        match mounted()? {
            Some(root) => Self::at(root, choice),
            None => Self::at(mount_privately(private)?, choice),
        }
    }

    /// Finds the hierarchy where it is mounted, an agent's private mount included.
    pub fn find(choice: &CgroupChoice) -> Result<Self> {
        let root = mounted()?.ok_or_else(|| Failure::unavailable("this host mounts no cgroup v2 hierarchy"))?;
        Self::at(root, choice)
    }

    fn at(root: PathBuf, choice: &CgroupChoice) -> Result<Self> {
        let root_id = id(&root)?;
        let attach = match choice {
            CgroupChoice::Auto => root.clone(),
            CgroupChoice::Path(dir) => {
                if !dir.starts_with(&root) {
                    return Err(Failure::config(format!(
                        "[kernel] cgroup = {dir:?} is not in the cgroup v2 hierarchy, which is mounted at {root:?}; write \"auto\" or a directory below it"
                    )));
                }
                id(dir)?;
                dir.clone()
            }
        };
        Ok(Self { root, root_id, attach })
    }

    pub fn attach_id(&self) -> Result<u64> {
        id(&self.attach)
    }

    pub fn open_attach(&self) -> Result<File> {
        File::open(&self.attach)
            .map_err(|e| Failure::from_io(&e, format!("the cgroup {:?} cannot be opened", self.attach)))
    }

    /// Path of a cgroup below the root, `/` for the root itself. `None` when there is no such cgroup now.
    pub fn path_of(&self, id: u64) -> Option<PathBuf> {
        path_by_id(&self.root, id)
    }
}

/// Path of a cgroup below the root of a mounted hierarchy, by its number.
pub fn path_by_id(mount: &Path, id: u64) -> Option<PathBuf> {
    let root = File::open(mount).ok()?;
    let found = open_by_id(&root, id).ok()?;
    let path = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
    // The path of one that has gone ends in " (deleted)" (`d_path`).
    let below = path.strip_prefix(mount).ok().filter(|_| path.exists())?;
    Some(Path::new("/").join(below))
}

/// Where systemd's own v1 hierarchy is mounted as a whole.
pub fn mount_of_v1() -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    mount_point(&String::from_utf8_lossy(&mounts), "cgroup", Some("name=systemd"))
}

/// cgroup v2 id of a directory: its inode number (`cgroup_id`, kernfs ids are 64-bit inodes since 5.5).
pub fn id(directory: &Path) -> Result<u64> {
    fs::metadata(directory).map(|m| m.ino()).map_err(|e| {
        Failure::unavailable(format!("the cgroup {directory:?} cannot be read: {e}; check [kernel] cgroup"))
    })
}

fn mounted() -> Result<Option<PathBuf>> {
    let mounts = fs::read("/proc/self/mountinfo")
        .map_err(|e| Failure::unavailable(format!("/proc/self/mountinfo cannot be read: {e}; is /proc mounted?")))?;
    Ok(mount_point(&String::from_utf8_lossy(&mounts), "cgroup2", None))
}

/// First mount of a kind of file system, with an option, that shows the whole hierarchy, from the text of
/// /proc/self/mountinfo (proc(5)).
fn mount_point(mountinfo: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let mut right = right.split(' ');
        let found = right.next() == Some(kind) && root == "/";
        let has = |wanted| right.next_back().is_some_and(|options| options.split(',').any(|option| option == wanted));
        (found && option.is_none_or(has)).then(|| PathBuf::from(unescape(point)))
    })
}

/// Undoes the octal escapes of mountinfo (`\040` for a space).
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(code) => {
                out.push(code as char);
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

/// Where the hierarchy is mounted for the agent alone, on hosts that mount none.
pub fn private_mount(run: &Path) -> PathBuf {
    run.join("cgroup")
}

fn mount_privately(at: &Path) -> Result<PathBuf> {
    fs::create_dir_all(at).map_err(|e| Failure::from_io(&e, format!("{at:?} cannot be made")))?;
    mount(
        Some("cgroup2"),
        at,
        Some("cgroup2"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&str>,
    )
    .map_err(|e| {
        Failure::from_io(
            &io::Error::from(e),
            format!("this host has no cgroup v2 hierarchy and none can be mounted at {at:?}"),
        )
    })?;
    tracing::info!(mount = %at.display(), "this host mounts no cgroup v2 hierarchy: mounted one for the agent");
    Ok(at.to_path_buf())
}

/// Takes back what [`mount_privately`] did. A host that mounts its own hierarchy has nothing there.
pub fn unmount_private(at: &Path) {
    use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
    if statfs(at).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        match nix::mount::umount(at) {
            Ok(()) => drop(fs::remove_dir(at)),
            Err(e) => eprintln!("smtp-agent: the private cgroup mount {at:?} stays: {e}"),
        }
    }
}

/// open_by_handle_at(2) with the handle kernfs gives a cgroup directory (`kernfs_encode_fh`: the 64-bit id
/// with type `FILEID_KERNFS`). Needs CAP_DAC_READ_SEARCH.
fn open_by_id(mount: &File, id: u64) -> io::Result<File> {
    use std::os::fd::FromRawFd;
    const FILEID_KERNFS: i32 = 0xfe;
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    // SAFETY: the structure has the layout of `struct file_handle` with 8 bytes of handle.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut handle, libc::O_RDONLY | libc::O_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_on_unified_hybrid_and_legacy_hosts() {
        let cases = [
            ("unified", "28 22 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", Some("/sys/fs/cgroup")),
            (
                "hybrid",
                "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
                Some("/sys/fs/cgroup/unified"),
            ),
            ("legacy", "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", None),
            ("optional fields", "41 31 0:38 / /cg rw shared:5 master:2 - cgroup2 none rw", Some("/cg")),
            ("a part of it", "41 31 0:38 /docker/abc /cg rw - cgroup2 none rw", None),
            ("a space", "41 31 0:38 / /my\\040cg rw - cgroup2 none rw", Some("/my cg")),
            ("nothing", "", None),
        ];
        let v1 = "33 31 0:30 / /cg/cpu rw - cgroup cgroup rw,cpu\n34 31 0:31 / /cg/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        assert_eq!(mount_point(v1, "cgroup", Some("name=systemd")), Some(PathBuf::from("/cg/systemd")));
        for (what, text, expected) in cases {
            assert_eq!(mount_point(text, "cgroup2", None), expected.map(PathBuf::from), "{what}");
        }
    }
}
