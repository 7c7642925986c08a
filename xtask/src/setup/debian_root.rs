//! Root directories of Debian that tests run real programs in: `chroot <root> …` runs any of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::geteuid;

use super::apt;
use crate::process::{limited, shown};
use crate::progress::Line;

const BUILD: Duration = Duration::from_secs(420);
const QUICK: Duration = Duration::from_secs(30);

/// No service may be started in the root: 101 is "action forbidden by policy" to invoke-rc.d.
const POLICY: &str =
    r#"printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d""#;
/// Half of a small root is documentation, in every language.
const LEFT_OUT: [&str; 4] = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// What every root is made with: the host's suite and its package sources.
pub(super) fn needs<'s>(suite: &'s Option<String>, line: &mut Line) -> Result<(&'s str, Vec<PathBuf>)> {
    let suite = suite.as_deref().context("/etc/os-release names no VERSION_CODENAME to build a root of")?;
    if !geteuid().is_root() {
        bail!("only root can build a root directory: sudo -E env \"PATH=$PATH\" cargo xtask setup");
    }
    if apt::program("mmdebstrap").is_none() {
        apt::install(&["mmdebstrap"], line)?;
    }
    Ok((suite, sources(Path::new("/etc/apt"))?))
}

pub(super) fn bootstrap(
    suite: &str,
    sources: &[PathBuf],
    root: &Path,
    packages: &[&str],
    line: &mut Line,
) -> Result<()> {
    // In mounts of its own: what it mounts in the root ends with it, however it ends, and no `rm -r` or
    // `cargo clean` ever meets the host's /proc, /sys or /dev there.
    let mut command = Command::new("unshare");
    command.args(["--mount", "mmdebstrap", "--mode=root", "--variant=minbase"]);
    command.arg(format!("--include={}", packages.join(",")));
    command.args(["--aptopt=Acquire::http::Timeout \"20\"", "--aptopt=Acquire::Retries \"2\""]);
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--essential-hook={POLICY}"));
    command.arg(suite).arg(root).args(sources);
    limited(&mut command, BUILD, line).map(drop).map_err(|failure| anyhow!("{}: {failure}", shown(&command)))
}

/// Other users than root run programs there, too.
pub(super) fn open_to_all_users(root: &Path) -> Result<()> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot open {} to other users", root.display()))
}

pub(super) fn starts(root: &Path, program: &[&str], line: &mut Line) -> Result<()> {
    ask(Command::new("chroot").arg(root).args(program), line)
        .map(drop)
        .with_context(|| format!("{} does not start in {}", program.join(" "), root.display()))
}

pub(super) fn ask(command: &mut Command, line: &mut Line) -> Result<String> {
    limited(command, QUICK, line).map_err(|failure| anyhow!("{}: {failure}", shown(command)))
}

/// The host's own package sources, in either format. Those of third parties would only add to the root's failures.
fn sources(apt: &Path) -> Result<Vec<PathBuf>> {
    let names = ["sources.list", "sources.list.d/debian.sources", "sources.list.d/ubuntu.sources"];
    let speaks = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::trim_start).any(|line| line.starts_with("deb") || line.starts_with("Types:"))
    };
    let found: Vec<_> = names.iter().map(|name| apt.join(name)).filter(speaks).collect();
    if found.is_empty() {
        bail!("no package sources in {}: none of {} names any", apt.display(), names.join(", "));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_found_in_either_format_and_empty_files_are_passed_over() {
        let apt = tempfile::tempdir().unwrap();
        fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        assert!(sources(apt.path()).unwrap_err().to_string().contains("sources.list"));

        fs::write(apt.path().join("sources.list"), "# see sources.list.d\n").unwrap();
        let modern = apt.path().join("sources.list.d/debian.sources");
        fs::write(&modern, "Types: deb\nURIs: http://deb.debian.org/debian\n").unwrap();
        assert_eq!(sources(apt.path()).unwrap(), std::slice::from_ref(&modern));

        fs::write(apt.path().join("sources.list"), "deb http://deb.debian.org/debian bookworm main\n").unwrap();
        assert_eq!(sources(apt.path()).unwrap(), [apt.path().join("sources.list"), modern]);
    }
}
