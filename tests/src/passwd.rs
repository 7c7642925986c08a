//! A private /etc: the users and groups of one test, and nobody else's.

use crate::{
    Must, bpffs,
    mountns::{MountNs, bind},
    scratch,
};
use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// What programs want of /etc besides users. Absent ones are left out.
const KEPT: &[&str] = &["hosts", "host.conf", "ld.so.cache", "localtime", "machine-id", "os-release", "resolv.conf"];

/// A directory that processes in its mount namespace see as /etc.
///
/// The whole directory is shown, not single files: `useradd` and its kin replace a file by renaming a new
/// one over it, which a bind-mounted file would hide.
pub struct Etc {
    dir: TempDir,
    view: MountNs,
}

impl Etc {
    /// An /etc with root and these users (name, uid, gid), each with a group of the same name.
    #[track_caller]
    pub fn with_users(users: &[(&str, u32, u32)]) -> Self {
        let dir = scratch::dir();
        for name in KEPT {
            // Follows symbolic links, which may lead out of /etc.
            let _ = fs::copy(Path::new("/etc").join(name), dir.path().join(name));
        }
        let path = dir.path().to_path_buf();
        // A view shows what is mounted when it is made, and an agent in it wants to pin.
        bpffs::ensure();
        let view = MountNs::new(|| bind(&path, Path::new("/etc")));
        let etc = Self { dir, view };
        etc.write_in_place("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\nsubid: files\n");
        etc.write_in_place("subuid", "");
        etc.write_in_place("subgid", "");
        etc.write_in_place("passwd", &passwd(users));
        etc.write_in_place("group", &group(users));
        etc
    }

    /// Where the files really are.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).must(format_args!("cannot read {name}"))
    }

    /// Puts a new file in the place of the old one, as `useradd` and `vipw` do.
    #[track_caller]
    pub fn replace(&self, name: &str, text: &str) {
        let (new, path) = (self.path(&format!("{name}.new")), self.path(name));
        fs::write(&new, text).must(format_args!("cannot write {}", new.display()));
        fs::set_permissions(&new, Permissions::from_mode(0o644)).must(format_args!("{}", new.display()));
        fs::rename(&new, &path).must(format_args!("cannot replace {}", path.display()));
    }

    /// Writes into the file that is there, as a shell's `>` does.
    #[track_caller]
    pub fn write_in_place(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).must(format_args!("cannot write {}", path.display()));
        // Whatever the umask of the test is, users can read these.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).must(format_args!("{}", path.display()));
    }

    /// Adds a line in place, as a shell's `>>` does; for passwd, group, subuid and the like.
    #[track_caller]
    pub fn append(&self, name: &str, line: &str) {
        let path = self.path(name);
        let mut file = File::options().append(true).open(&path).must(format_args!("{}", path.display()));
        writeln!(file, "{line}").must(format_args!("cannot write {}", path.display()));
    }

    /// Adds a user and a group of the same name, in one replacement of each file.
    #[track_caller]
    pub fn add_user(&self, name: &str, uid: u32, gid: u32) {
        self.replace("group", &(self.read("group") + &group_line(name, gid)));
        self.replace("passwd", &(self.read("passwd") + &passwd_line(name, uid, gid)));
    }

    /// Takes a user and the group of the same name away.
    #[track_caller]
    pub fn remove_user(&self, name: &str) {
        for file in ["passwd", "group"] {
            let kept = self
                .read(file)
                .lines()
                .filter(|line| line.split(':').next() != Some(name))
                .fold(String::new(), |text, line| text + line + "\n");
            self.replace(file, &kept);
        }
    }

    /// Has `command` see the directory as /etc. Its working directory becomes the root.
    pub fn enter(&self, command: &mut Command) {
        self.view.enter(command);
    }

    pub(crate) fn view(&self) -> &MountNs {
        &self.view
    }
}

fn passwd(users: &[(&str, u32, u32)]) -> String {
    let root = "root:x:0:0:root:/root:/bin/sh\n".to_string();
    users.iter().fold(root, |text, (name, uid, gid)| text + &passwd_line(name, *uid, *gid))
}

fn group(users: &[(&str, u32, u32)]) -> String {
    users.iter().fold("root:x:0:\n".to_string(), |text, (name, _, gid)| text + &group_line(name, *gid))
}

/// Names may be anything a test wants to see quoted, except what would break the file's own format.
fn passwd_line(name: &str, uid: u32, gid: u32) -> String {
    format!("{name}:x:{uid}:{gid}::/nonexistent:/usr/sbin/nologin\n")
}

fn group_line(name: &str, gid: u32) -> String {
    format!("{name}:x:{gid}:\n")
}
