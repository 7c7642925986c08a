//! Tests of the doctor's rooms: hosts made of files.

mod dnsbl;
mod nobody;
mod queue;
mod sendmail;
mod whole;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Finding, Level, host::Host};
use crate::config::{self, Config};

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nwww-data:x:33:33::/:/bin/false\n";
const GROUP: &str = "root:x:0:\npostdrop:x:123:\nstaff:x:50:\n";

/// A host made of files below a directory of its own.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().expect("a directory for the test"));
        tree.write("/etc/passwd", PASSWD);
        tree.write("/etc/group", GROUP);
        tree
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn directory(&self, path: &str) {
        fs::create_dir_all(self.path(path)).expect("a directory");
    }

    /// A program with a mode, which belongs to whoever runs the tests.
    fn program(&self, path: &str, mode: u32, text: &str) {
        self.write(path, text);
        self.mode(path, mode);
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn link(&self, target: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        symlink(target, path).expect("a link");
    }

    /// A process with this real and effective uid.
    fn process(&self, pid: u32, name: &str, uid: u32, exe: &str) {
        let status = format!(
            "Name:\t{name}\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t1\n\
             TracerPid:\t0\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nFDSize:\t64\n\
             Groups:\t\nThreads:\t1\nSigQ:\t0/1\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n\
             CapInh:\t0\nCapPrm:\t0\nCapEff:\t0\n"
        );
        self.write(&format!("/proc/{pid}/status"), status);
        self.write(&format!("/proc/{pid}/stat"), "");
        self.directory(&format!("/proc/{pid}/fd"));
        self.link(exe, &format!("/proc/{pid}/exe"));
    }

    fn host(&self) -> Host {
        Host::at(self.root())
    }
}

fn config(text: &str) -> Config {
    config::parse_str("test", text).expect("a configuration").config
}

/// Those of a level, each on a line with what is below it.
fn of(found: &[Finding], level: Level) -> Vec<String> {
    let text = |one: &Finding| {
        let advice = one.advice.as_deref().unwrap_or_default();
        [one.what.clone(), one.evidence.join("; "), advice.to_owned()].join(" | ")
    };
    found.iter().filter(|one| one.level == level).map(text).collect()
}

#[track_caller]
fn assert_one(found: &[Finding], level: Level, parts: &[&str]) {
    let lines = of(found, level);
    let has_all = |line: &String| parts.iter().all(|part| line.contains(part));
    assert_eq!(lines.iter().filter(|line| has_all(line)).count(), 1, "{parts:?} in {level:?} of\n{found:#?}");
}
