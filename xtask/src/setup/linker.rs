//! `bpf-linker`, built against an LLVM that is not older than the probe toolchain's.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use probe_toolchain::{LINKER_VERSION, find, find_linker, parse_version};

use super::attempts::Attempts;
use super::{Item, apt};
use crate::progress::Line;
use crate::workspace::cargo;

/// The LLVMs this bpf-linker can be built for, the preferred one first.
const LLVMS: [u32; 2] = [22, 23];
/// What the linker needs to link to besides LLVM itself.
const LIBRARIES: [&str; 2] = ["zlib1g-dev", "libzstd-dev"];

const BUILD: Duration = Duration::from_secs(600);
const BINARY: Duration = Duration::from_secs(120);
const ASK: Duration = Duration::from_secs(10);

pub(super) struct BpfLinker;

impl Item for BpfLinker {
    fn name(&self) -> &'static str {
        "bpf-linker"
    }

    fn look(&self) -> Result<String, String> {
        let linker = find_linker().map_err(|missing| match missing.refused.first() {
            None => format!("none of version {LINKER_VERSION} or newer"),
            Some((path, why)) => format!("{} {why}", path.display()),
        })?;
        Ok(linker.to_string())
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        // Bitcode of a newer LLVM cannot be read by an older one.
        let oldest = find().ok().and_then(|toolchain| toolchain.llvm).unwrap_or(LLVMS[0]);
        let mut attempts = Attempts::default();
        let wanted: Vec<u32> = LLVMS.into_iter().filter(|llvm| *llvm >= oldest).collect();
        if wanted.is_empty() {
            attempts.note("choosing an LLVM", format!("the probe's compiler has LLVM {oldest}, {LLVMS:?} are known"));
        }
        // What is installed already comes first, whichever it is.
        for &llvm in &wanted {
            if let Some(prefix) = installed(llvm)
                && build(llvm, &prefix, &mut attempts, line)
            {
                return Ok(());
            }
        }
        for &llvm in &wanted {
            if !offered(llvm, line) {
                attempts
                    .note(format!("Debian's llvm-{llvm}-dev"), "is not offered to this host, or apt-get is not ours");
            } else if let Err(error) = apt::install(&packages(llvm).each_ref().map(String::as_str), line) {
                attempts.note(format!("Debian's llvm-{llvm}-dev"), format!("{error:#}"));
            } else if build(llvm, &debian_prefix(llvm), &mut attempts, line) {
                return Ok(());
            }
        }
        if apt::program("cargo-binstall").is_some() {
            let mut command = cargo();
            command.args(["binstall", "--no-confirm", &format!("bpf-linker@{LINKER_VERSION}")]);
            if attempts.command(&mut command, BINARY, line) {
                return Ok(());
            }
        }
        let names = packages(*wanted.first().unwrap_or(&LLVMS[0])).join(" ");
        Err(attempts.exhausted(&format!(
            "install {names} and run this again,\n  \
             or put a release of bpf-linker {LINKER_VERSION} or newer on the PATH: https://github.com/aya-rs/bpf-linker/releases"
        )))
    }
}

fn build(llvm: u32, prefix: &Path, attempts: &mut Attempts, line: &mut Line) -> bool {
    let mut command = cargo();
    command.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"]);
    command.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
    command.env("LLVM_PREFIX", prefix);
    // Ours would keep its build for ever, and a probe toolchain must not build host programs.
    command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR");
    attempts.command(&mut command, BUILD, line)
}

/// An LLVM of this version with its headers: Debian's, the one LLVM_PREFIX names, or the system's own.
fn installed(llvm: u32) -> Option<PathBuf> {
    let named = env::var_os("LLVM_PREFIX").map(PathBuf::from);
    let own = apt::program("llvm-config").and_then(|config| ask(&config, "--prefix")).map(PathBuf::from);
    let is_wanted = |prefix: &PathBuf| {
        let config = prefix.join("bin/llvm-config");
        prefix.join("include/llvm-c/Core.h").is_file()
            && ask(&config, "--version").and_then(|text| parse_version(&text)).map(|found| found.0) == Some(llvm)
    };
    named.into_iter().chain([debian_prefix(llvm)]).chain(own).find(is_wanted)
}

fn ask(config: &Path, question: &str) -> Option<String> {
    let answer = crate::process::limited(Command::new(config).arg(question), ASK, &mut Line::silent()).ok()?;
    Some(answer.trim().to_owned())
}

fn offered(llvm: u32, line: &mut Line) -> bool {
    apt::offers(&format!("llvm-{llvm}-dev"), line)
}

fn debian_prefix(llvm: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm}"))
}

fn packages(llvm: u32) -> [String; 4] {
    let [zlib, zstd] = LIBRARIES.map(str::to_owned);
    [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"), zlib, zstd]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_are_those_of_one_llvm() {
        assert_eq!(packages(22), ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev"]);
    }
}
