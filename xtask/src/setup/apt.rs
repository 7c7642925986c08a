//! Debian's packages, where there is an apt-get and we may use it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::geteuid;

use crate::process::{limited, shown};
use crate::progress::Line;

/// apt's own limits, so that it gives up on a dead mirror or a held lock before we have to end it.
const PATIENCE: [&str; 6] =
    ["-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=2", "-o", "DPkg::Lock::Timeout=60"];

const UPDATE: Duration = Duration::from_secs(90);
const INSTALL: Duration = Duration::from_secs(420);
const DOWNLOAD: Duration = Duration::from_secs(120);

/// Package lists older than this are fetched again before something is installed.
const STALE: Duration = Duration::from_secs(24 * 3600);

const LISTS: &str = "/var/lib/apt/lists";

/// Installs packages, unless that is impossible here; the error then names them.
pub(super) fn install(packages: &[&str], line: &mut Line) -> Result<()> {
    allowed(packages)?;
    refresh(line)?;
    let mut command = apt_get();
    // A conflict must not cost the user a package: Debian's rust-web-clippy would remove Debian's rustup.
    command.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages);
    line.doing(format!("apt-get install {}", packages.join(" ")));
    limited(&mut command, INSTALL, line)
        .map(drop)
        .map_err(|failure| anyhow!("{}: {failure}", shown(&command)))
        .with_context(|| format!("apt-get could not install {}", packages.join(" ")))
}

/// Downloads a package's file into `directory` and unpacks it there; the file itself is not kept.
pub(super) fn unpack(package: &str, directory: &Path, line: &mut Line) -> Result<()> {
    let file = download(package, directory, line)?;
    line.doing(format!("unpacking {package}"));
    let mut command = Command::new("dpkg-deb");
    command.arg("--extract").arg(&file).arg(directory);
    limited(&mut command, DOWNLOAD, line).map_err(|failure| anyhow!("{}: {failure}", shown(&command)))?;
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
}

/// Downloads a package's file into `directory` without installing it.
pub(super) fn download(package: &str, directory: &Path, line: &mut Line) -> Result<PathBuf> {
    if program("apt-get").is_none() {
        bail!(
            "it is made from Debian's package {package}, and this host has no apt-get; the tests need Debian or Ubuntu"
        );
    }
    refresh(line)?;
    line.doing(format!("downloading {package}"));
    let mut command = apt_get();
    // apt's own user cannot write into our directory, and would warn about it.
    command.args(["download", "-o", "APT::Sandbox::User=root", package]).current_dir(directory);
    limited(&mut command, DOWNLOAD, line).map_err(|failure| anyhow!("{}: {failure}", shown(&command)))?;
    let prefix = format!("{package}_");
    let files = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    files
        .flatten()
        .find(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.starts_with(&prefix) && name.ends_with(".deb")
        })
        .map(|file| file.path())
        .with_context(|| format!("apt-get download left no {prefix}*.deb in {}", directory.display()))
}

/// Whether the package lists offer `package`.
pub(super) fn offers(package: &str, line: &mut Line) -> bool {
    if allowed(&[package]).is_err() || refresh(line).is_err() {
        return false;
    }
    let mut command = Command::new("apt-cache");
    command.args(["show", "--no-all-versions", package]);
    limited(&mut command, DOWNLOAD, line).is_ok()
}

/// The suite this host runs, and the value of any other key of os-release.
pub(super) fn os_release(key: &str) -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    os_release_value(&text, key)
}

/// The program's path, looked up as a shell would, with the directories that only root's PATH holds.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn allowed(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    if program("apt-get").is_none() {
        bail!("this host has no apt-get; install with its own package manager what Debian calls: {wanted}");
    }
    if !geteuid().is_root() {
        bail!("installing needs root; run `sudo apt-get install {wanted}` and then `cargo xtask setup` again");
    }
    Ok(())
}

/// Fetches the package lists, once, and only when they are absent or older than a day.
/// A mirror that does not answer is asked once, not once for each package.
fn refresh(line: &mut Line) -> Result<()> {
    static OUTCOME: OnceLock<Result<(), String>> = OnceLock::new();
    let update = || {
        if are_fresh(Path::new(LISTS), SystemTime::now()) {
            return Ok(());
        }
        if !geteuid().is_root() {
            return Err("the package lists are older than a day; run `sudo apt-get update` first".to_owned());
        }
        line.doing("apt-get update");
        let mut command = apt_get();
        command.arg("update");
        limited(&mut command, UPDATE, line).map(drop).map_err(|failure| format!("{}: {failure}", shown(&command)))
    };
    OUTCOME.get_or_init(update).clone().map_err(anyhow::Error::msg)
}

/// apt keeps the server's dates on the lists; the directory it downloads into tells when it last did.
fn are_fresh(lists: &Path, now: SystemTime) -> bool {
    let Ok(files) = fs::read_dir(lists) else { return false };
    let some = files.flatten().any(|file| file.file_name().to_string_lossy().contains("_Packages"));
    let updated = [lists.to_path_buf(), lists.join("partial")]
        .iter()
        .filter_map(|directory| fs::metadata(directory).and_then(|found| found.modified()).ok())
        .max();
    some && updated.is_some_and(|updated| now.duration_since(updated).unwrap_or_default() < STALE)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8").arg("--quiet").args(PATIENCE);
    command
}

fn os_release_value(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_os_release_is_read_without_its_quotes() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID='debian'\n";
        assert_eq!(os_release_value(text, "VERSION_CODENAME").as_deref(), Some("bookworm"));
        assert_eq!(os_release_value(text, "NAME").as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(os_release_value(text, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release_value(text, "VERSION"), None);
    }

    #[test]
    fn lists_are_stale_when_absent_empty_or_a_day_old() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        assert!(!are_fresh(&directory.path().join("absent"), now));
        assert!(!are_fresh(directory.path(), now), "no list in it");
        fs::write(directory.path().join("deb.debian.org_x_main_binary-amd64_Packages.lz4"), "").unwrap();
        assert!(are_fresh(directory.path(), SystemTime::now()));
        assert!(!are_fresh(directory.path(), SystemTime::now() + STALE + Duration::from_secs(60)));
    }
}
