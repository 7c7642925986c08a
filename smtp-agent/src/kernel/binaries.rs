//! Files as the kernel tells them apart.

use std::{
    collections::HashSet,
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use smtp_common::names::Binary;

/// The file at `path`, behind all symbolic links; `None` where there is none.
///
/// The inode is that of stat(2). The device is not: btrfs and overlayfs show another one there than their file system has
/// (`s_dev`), which is what mountinfo shows of the mount the file lies on.
fn binary(path: &Path, mountinfo: &str) -> Option<Binary> {
    let path = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let device = device_of(mountinfo, &path).unwrap_or_else(|| {
        let dev = metadata.dev();
        make(nix::sys::stat::major(dev), nix::sys::stat::minor(dev))
    });
    Some(Binary { device, inode: metadata.ino() })
}

/// Those of `paths` that are there.
pub fn binaries(paths: &[PathBuf]) -> HashSet<Binary> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    paths.iter().filter_map(|path| binary(path, &mounts)).collect()
}

/// Whether a file is executed by an interpreter that its first line names (execve(2)).
pub fn is_script(path: &Path) -> bool {
    let mut first = [0; 2];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == *b"#!"
}

/// `MKDEV` of include/linux/kdev_t.h, which is not what user space has for the same numbers.
fn make(major: u64, minor: u64) -> u64 {
    major << 20 | minor
}

/// The device of the mount a path lies on: of those that are a prefix of it the longest, and of equal ones the last, which
/// covers the others.
fn device_of(mountinfo: &str, path: &Path) -> Option<u64> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (major, minor) = fields.nth(2)?.split_once(':')?;
        let point = unescape(fields.nth(1)?);
        Some((point, make(major.parse().ok()?, minor.parse().ok()?)))
    });
    let covering = mounts.filter(|(point, _)| path.starts_with(point));
    covering.max_by_key(|(point, _)| point.len()).map(|(_, device)| device)
}

/// proc(5) writes blanks and backslashes of mount points in octal.
fn unescape(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_tells_the_device() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:45 / /usr rw - btrfs /dev/b rw\n3 1 0:46 /x /usr/lib\\040x rw - tmpfs t rw\n4 1 0:47 / /usr rw - overlay o rw\n";
        let device = |path: &str| device_of(mounts, Path::new(path));
        assert_eq!(device("/bin/sh"), Some(8 << 20 | 1));
        assert_eq!(device("/usr/sbin/exim4"), Some(47), "the later mount covers the one before");
        assert_eq!(device("/usr/lib x/sendmail"), Some(46));
        assert_eq!(device("/usrx"), Some(8 << 20 | 1), "a name that only begins alike is elsewhere");
    }

    #[test]
    fn links_are_followed_and_what_is_not_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("exim4"), dir.path().join("sendmail"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("exim4", &link).unwrap();
        let binary = |path: &Path| binary(path, &fs::read_to_string("/proc/self/mountinfo").unwrap());
        assert_eq!(binary(&link), binary(&file));
        assert!(binary(&file).is_some_and(|b| b.inode != 0));
        assert_eq!(binary(dir.path()), None, "a directory");
        assert!(!is_script(&file), "empty");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        assert!(is_script(&link));
        assert_eq!(binary(&dir.path().join("absent")), None);
    }
}
