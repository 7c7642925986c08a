//! The linker: `bpf-linker` on the PATH or in cargo's bin directory.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Version, parse_version};

/// The oldest bpf-linker known to build the probe, and the one `cargo xtask setup` installs.
pub const LINKER_VERSION: &str = "0.13.0";

const PROGRAM: &str = "bpf-linker";

/// A bpf-linker new enough for the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    pub path: PathBuf,
    pub version: Version,
}

impl Linker {
    /// The PATH with the linker's directory first: rustc looks it up there by name.
    pub fn search_path(&self) -> OsString {
        let first = self.path.parent().map(Path::to_path_buf);
        let rest = env::var_os("PATH").unwrap_or_default();
        // The parts come from a PATH and from a directory that was found through one: no colon to refuse.
        env::join_paths(first.into_iter().chain(env::split_paths(&rest))).unwrap_or(rest)
    }
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "{major}.{minor}.{patch} ({})", self.path.display())
    }
}

/// No linker will do; names those that were found and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkerMissing {
    pub refused: Vec<(PathBuf, String)>,
}

impl fmt::Display for LinkerMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no {PROGRAM} {LINKER_VERSION} or newer on the PATH or in cargo's bin directory; run `cargo xtask setup`"
        )?;
        self.refused.iter().try_for_each(|(path, why)| write!(f, "\n  {}: {why}", path.display()))
    }
}

impl Error for LinkerMissing {}

/// The first bpf-linker that is new enough, the PATH before cargo's bin directory.
pub fn find_linker() -> Result<Linker, LinkerMissing> {
    find_in(directories())
}

fn directories() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = env::split_paths(&path).collect();
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    directories.extend(env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).map(|home| home.join("bin")));
    directories
}

fn find_in(directories: Vec<PathBuf>) -> Result<Linker, LinkerMissing> {
    let mut refused: Vec<(PathBuf, String)> = Vec::new();
    for path in directories.into_iter().map(|directory| directory.join(PROGRAM)) {
        if !path.is_file() || refused.iter().any(|(seen, _)| *seen == path) {
            continue;
        }
        match version_of(&path) {
            Ok(version) if Some(version) >= parse_version(LINKER_VERSION) => return Ok(Linker { path, version }),
            Ok((major, minor, patch)) => refused.push((path, format!("is only {major}.{minor}.{patch}"))),
            Err(why) => refused.push((path, why)),
        }
    }
    Err(LinkerMissing { refused })
}

/// `bpf-linker --version` says `bpf-linker 0.13.0`. It fails when its LLVM library is gone.
fn version_of(path: &Path) -> Result<Version, String> {
    let output = Command::new(path).arg("--version").output().map_err(|error| format!("cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("fails ({}): {}", output.status, stderr.lines().next().unwrap_or("it said nothing")));
    }
    text.split_whitespace()
        .nth(1)
        .and_then(parse_version)
        .ok_or_else(|| format!("says {:?} for its version", text.trim()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory holding a script that answers as bpf-linker would.
    fn fake(name: &str, script: &str) -> PathBuf {
        let directory = env::temp_dir().join(format!("probe-toolchain-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let text = directory.join("script");
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // By another process: a descriptor of ours, open for writing, could leak into a child of another test's
        // thread for a moment, and the script then be "busy" (ETXTBSY).
        let program = directory.join(PROGRAM);
        assert!(Command::new("install").args(["-m", "755"]).args([text, program]).status().unwrap().success());
        directory
    }

    #[test]
    fn an_old_and_a_broken_linker_are_passed_over_for_a_good_one() {
        let old = fake("old", "echo bpf-linker 0.9.15");
        let broken = fake("broken", "echo no libLLVM >&2; exit 127");
        let good = fake("good", "echo bpf-linker 0.13.2");
        let absent = PathBuf::from("/nonexistent");

        let linker = find_in(vec![absent.clone(), old.clone(), broken.clone(), good.clone()]).unwrap();
        assert_eq!((linker.path, linker.version), (good.join(PROGRAM), (0, 13, 2)));

        let missing = find_in(vec![absent, old.clone(), old.clone(), broken.clone()]).unwrap_err();
        assert_eq!(missing.refused.len(), 2, "the same file counts once: {missing}");
        assert!(missing.to_string().contains("is only 0.9.15"), "{missing}");
        assert!(missing.to_string().contains("no libLLVM"), "{missing}");

        for directory in [old, broken, good] {
            fs::remove_dir_all(directory).unwrap();
        }
    }
}
