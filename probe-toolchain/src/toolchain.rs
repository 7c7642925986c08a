//! The toolchain: one named by the environment, the linked one, or a nightly, whichever comes first and will do.

use std::env;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Version, parse_version};

/// Names a rustup toolchain to build the probe with. It wins over everything else and must be usable.
pub const ENV: &str = "SMTP_PROBE_TOOLCHAIN";

/// The rustup name under which `cargo xtask setup` links a toolchain that is not rustup's own.
pub const LINKED: &str = "smtp-agent-probe";

/// The workspace's `rust-version`: an older compiler refuses smtp-common.
pub const MIN_RUSTC: &str = env!("CARGO_PKG_RUST_VERSION");

/// Where build-std looks for `core` below a sysroot.
const CORE: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";

/// Why a toolchain was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment,
    Linked,
    Nightly,
}

/// A toolchain that can build the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// As `rustup run NAME` knows it.
    pub name: String,
    pub origin: Origin,
    pub sysroot: PathBuf,
    pub rustc: Version,
    /// Its LLVM's major version; the linker's LLVM must not be older. Unknown with other code generators.
    pub llvm: Option<u32>,
    /// `-Z build-std` needs `RUSTC_BOOTSTRAP=1`: the compiler is no nightly.
    pub bootstrap: bool,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.rustc;
        let origin = match self.origin {
            Origin::Environment => ENV,
            Origin::Linked => "linked",
            Origin::Nightly => "nightly with rust-src",
        };
        write!(f, "{} (rustc {major}.{minor}.{patch}, {origin})", self.name)
    }
}

/// No toolchain will do; says what was looked at and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub looked_at: Vec<(String, String)>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no toolchain can build the kernel probe; run `cargo xtask setup`. Looked at:")?;
        self.looked_at.iter().try_for_each(|(what, why)| write!(f, "\n  {what}: {why}"))
    }
}

impl Error for Missing {}

/// The toolchain to build the probe with: `$SMTP_PROBE_TOOLCHAIN`, else the linked one, else a nightly with rust-src.
pub fn find() -> Result<Toolchain, Missing> {
    if let Some(name) = env::var_os(ENV).filter(|name| !name.is_empty()) {
        let name = name.to_string_lossy().into_owned();
        return sysroot_of(&name)
            .and_then(|sysroot| examine(&name, Origin::Environment, sysroot))
            .map_err(|why| Missing { looked_at: vec![(format!("{ENV}={name}"), why)] });
    }
    let installed = installed().map_err(|why| Missing { looked_at: vec![("rustup".to_owned(), why)] })?;
    let mut looked_at = Vec::new();
    match installed.iter().find(|(name, _)| name == LINKED) {
        None => looked_at.push((LINKED.to_owned(), "not linked".to_owned())),
        Some((name, path)) => match examine(name, Origin::Linked, path.clone()) {
            Ok(toolchain) => return Ok(toolchain),
            Err(why) => looked_at.push((name.clone(), why)),
        },
    }
    let nightlies = nightlies_in(installed);
    if nightlies.is_empty() {
        looked_at.push(("nightly".to_owned(), "not installed".to_owned()));
    }
    for (name, path) in nightlies {
        match examine(&name, Origin::Nightly, path) {
            Ok(toolchain) => return Ok(toolchain),
            Err(why) => looked_at.push((name, why)),
        }
    }
    Err(Missing { looked_at })
}

/// The names of the nightlies rustup has, with rust-src or without: the rolling one first, then the newest.
pub fn nightlies() -> Vec<String> {
    nightlies_in(installed().unwrap_or_default()).into_iter().map(|(name, _)| name).collect()
}

/// Whether build-std finds its sources under this sysroot.
pub fn has_rust_src(sysroot: &Path) -> bool {
    sysroot.join(CORE).is_file()
}

/// Whether the toolchain at `sysroot` would do under the linked name.
pub fn examine_sysroot(sysroot: &Path) -> Result<Toolchain, String> {
    examine(LINKED, Origin::Linked, sysroot.to_path_buf())
}

fn examine(name: &str, origin: Origin, sysroot: PathBuf) -> Result<Toolchain, String> {
    if !has_rust_src(&sysroot) {
        return Err(format!("has no library sources (rust-src): {} is absent", sysroot.join(CORE).display()));
    }
    for program in ["rustc", "cargo"] {
        let path = sysroot.join("bin").join(program);
        if !path.is_file() {
            return Err(format!("has no {program}: {} is absent", path.display()));
        }
    }
    let described = output(Command::new(sysroot.join("bin/rustc")).arg("-vV"))?;
    let field = |key: &str| described.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let release = field("release:").ok_or("`rustc -vV` names no release")?;
    let rustc = parse_version(release).ok_or_else(|| format!("`rustc -vV` names an unreadable release {release:?}"))?;
    if Some(rustc) < parse_version(MIN_RUSTC) {
        return Err(format!("is rustc {release}, and {MIN_RUSTC} or newer is needed"));
    }
    Ok(Toolchain {
        name: name.to_owned(),
        origin,
        rustc,
        llvm: field("LLVM version:").and_then(parse_version).map(|(major, ..)| major),
        bootstrap: !(release.contains("-nightly") || release.contains("-dev")),
        sysroot,
    })
}

fn sysroot_of(name: &str) -> Result<PathBuf, String> {
    output(rustup().args(["run", name, "rustc", "--print", "sysroot"])).map(|text| PathBuf::from(text.trim_end()))
}

fn installed() -> Result<Vec<(String, PathBuf)>, String> {
    output(rustup().args(["toolchain", "list", "-v"])).map(|text| text.lines().filter_map(parse_listed).collect())
}

/// A line of `rustup toolchain list -v`: the name, perhaps `(active, default)`, the path. No name holds a slash.
fn parse_listed(line: &str) -> Option<(String, PathBuf)> {
    let name = line.split_whitespace().next()?;
    let path = &line[line.find('/')?..];
    Some((name.to_owned(), PathBuf::from(path.trim_end())))
}

fn nightlies_in(installed: Vec<(String, PathBuf)>) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = installed.into_iter().filter(|(name, _)| name.starts_with("nightly-")).collect();
    // `nightly-2026-05-01-…` is dated, `nightly-x86_64-…` rolls on.
    let dated = |name: &str| name["nightly-".len()..].starts_with(|c: char| c.is_ascii_digit());
    found.sort_by(|(a, _), (b, _)| dated(a).cmp(&dated(b)).then_with(|| b.cmp(a)));
    found
}

/// rustup, forbidden to install a toolchain on the way: that would download, and may hang.
fn rustup() -> Command {
    let mut command = Command::new("rustup");
    command.env("RUSTUP_AUTO_INSTALL", "0").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let first = stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    Err(format!("{program} failed ({}): {first}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_toolchain_is_read_with_and_without_its_marks() {
        let listed = |line| parse_listed(line).map(|(name, path)| (name, path.display().to_string()));
        let both = |name: &str, path: &str| Some((name.to_owned(), path.to_owned()));
        assert_eq!(
            listed("stable-x (active, default) /r/toolchains/stable-x"),
            both("stable-x", "/r/toolchains/stable-x")
        );
        assert_eq!(listed("smtp-agent-probe\t/my home/usr"), both("smtp-agent-probe", "/my home/usr"));
        assert_eq!(listed("no installed toolchains"), None);
        assert_eq!(listed(""), None);
    }

    #[test]
    fn the_rolling_nightly_comes_first_and_then_the_newest() {
        let names =
            ["nightly-2025-01-01-x86_64", "stable-x86_64", "nightly-2026-05-01-x86_64", "nightly-x86_64", "my-nightly"];
        let sorted = nightlies_in(names.iter().map(|name| ((*name).to_owned(), PathBuf::new())).collect());
        let sorted: Vec<_> = sorted.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(sorted, ["nightly-x86_64", "nightly-2026-05-01-x86_64", "nightly-2025-01-01-x86_64"]);
    }

    #[test]
    fn a_sysroot_without_library_sources_is_refused_by_name() {
        let why = examine_sysroot(Path::new("/nonexistent")).unwrap_err();
        assert!(why.contains("rust-src") && why.contains("/nonexistent/lib/rustlib"), "{why}");
    }
}
