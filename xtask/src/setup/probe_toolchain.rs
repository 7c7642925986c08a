//! The toolchain that builds the kernel probe: `core`'s sources beside a compiler.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use probe_toolchain::{ENV, LINKED, MIN_RUSTC, Missing, examine_sysroot, find, nightlies};

use super::attempts::Attempts;
use super::{Item, apt};
use crate::progress::Line;

/// Debian's compiler for its browsers, newer than the suite's own, with the library's sources.
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// Where those packages live.
const SYSTEM: &str = "/usr";

/// rustup is known to hang on a component it cannot fetch, so this is short: rust-src is 3 MB.
const COMPONENT: Duration = Duration::from_secs(20);
/// A whole toolchain is 200 MB.
const TOOLCHAIN: Duration = Duration::from_secs(180);
const LINK: Duration = Duration::from_secs(10);

pub(super) struct ProbeToolchain;

impl Item for ProbeToolchain {
    fn name(&self) -> &'static str {
        "probe toolchain"
    }

    fn look(&self) -> Result<String, String> {
        find().map(|toolchain| toolchain.to_string()).map_err(|missing| brief(&missing))
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        if let (Some(name), Err(missing)) = (env::var_os(ENV).filter(|name| !name.is_empty()), find()) {
            let name = name.to_string_lossy();
            bail!("{}\n  by hand: unset {ENV}, or install what toolchain {name} lacks", brief(&missing));
        }
        if apt::program("rustup").is_none() {
            bail!("the probe's toolchain is chosen through rustup, and there is none; see https://rustup.rs");
        }
        let mut attempts = Attempts::default();
        for way in [system_as_it_is, component, debian, whole_nightly] {
            way(&mut attempts, line);
            if find().is_ok() {
                return Ok(());
            }
            if crate::interrupt::received().is_some() {
                break;
            }
        }
        Err(attempts.exhausted(&format!(
            "rustup toolchain install nightly --component rust-src\n  \
             or name in {ENV} a toolchain of rustc {MIN_RUSTC} or newer that has rust-src"
        )))
    }
}

/// The packages may be there already, and only the link missing.
fn system_as_it_is(attempts: &mut Attempts, line: &mut Line) {
    match examine_sysroot(Path::new(SYSTEM)) {
        Ok(_) => link(attempts, line),
        Err(why) => attempts.note(format!("the toolchain in {SYSTEM}"), why),
    }
}

fn component(attempts: &mut Attempts, line: &mut Line) {
    match nightlies().first() {
        None => attempts.note("rustup component add rust-src", "no nightly is installed"),
        Some(nightly) => {
            let mut command = rustup();
            command.args(["component", "add", "rust-src", "--toolchain", nightly]);
            attempts.command(&mut command, COMPONENT, line);
        }
    }
}

fn debian(attempts: &mut Attempts, line: &mut Line) {
    if let Err(error) = apt::install(&PACKAGES, line) {
        return attempts.note(format!("Debian's {}", PACKAGES.join(" ")), format!("{error:#}"));
    }
    match examine_sysroot(Path::new(SYSTEM)) {
        Ok(_) => link(attempts, line),
        Err(why) => attempts.note(format!("Debian's {}", PACKAGES.join(" ")), why),
    }
}

/// Last, for a host that is no Debian and has no nightly. One that is installed already was tried as it is.
fn whole_nightly(attempts: &mut Attempts, line: &mut Line) {
    if nightlies().is_empty() {
        let mut command = rustup();
        command.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
        attempts.command(&mut command, TOOLCHAIN, line);
    }
}

fn link(attempts: &mut Attempts, line: &mut Line) {
    attempts.command(rustup().args(["toolchain", "link", LINKED, SYSTEM]), LINK, line);
}

fn rustup() -> Command {
    let mut command = Command::new("rustup");
    command.env_remove("RUSTUP_TOOLCHAIN");
    command
}

/// What was looked at, on one line: the advice to run set-up would be idle here.
fn brief(missing: &Missing) -> String {
    missing.looked_at.iter().map(|(what, why)| format!("{what}: {why}")).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_at_fits_one_line() {
        let looked_at = [("a", "is old"), ("b", "is absent")].map(|(what, why)| (what.to_owned(), why.to_owned()));
        assert_eq!(brief(&Missing { looked_at: looked_at.to_vec() }), "a: is old; b: is absent");
    }
}
