//! `cargo xtask lint`: clippy on every crate, warnings refused. The probe has another target and another compiler.

use std::env::consts::ARCH;
use std::process::Command;

use anyhow::Result;
use probe_toolchain::{Toolchain, find};

use crate::process::foreground;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;

const PROBE: &str = "smtp-ebpf";

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::run(workspace, Scope::Lint)?;
    eprintln!("clippy: the probe");
    let probe = foreground(&mut probe(workspace, &find()?));
    eprintln!("clippy: every other crate");
    let mut command = workspace.cargo();
    command.args([
        "clippy",
        "--workspace",
        "--exclude",
        PROBE,
        "--all-targets",
        "--keep-going",
        "--",
        "--deny",
        "warnings",
    ]);
    // One's warnings do not hide the other's.
    foreground(&mut command).and(probe)
}

/// As aya-build builds it, and with the driver of the compiler that built `core`.
fn probe(workspace: &Workspace, toolchain: &Toolchain) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", &toolchain.name, "cargo", "clippy", "--package", PROBE, "--release", "-Zbuild-std=core"]);
    command.arg(format!("--target={}-unknown-none", if cfg!(target_endian = "big") { "bpfeb" } else { "bpfel" }));
    // A directory of its own: two compilers' work in one would be thrown out in turn.
    command.arg("--target-dir").arg(workspace.target.join("lint-probe"));
    command.args(["--", "--deny", "warnings"]);
    command.current_dir(&workspace.root);
    command.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{ARCH}\""));
    if toolchain.bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    // The cargo that started us names itself and its compiler; the probe has its own.
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::PathBuf;

    use probe_toolchain::Origin;

    use super::*;

    #[test]
    fn only_a_compiler_that_is_no_nightly_is_told_to_bootstrap() {
        let workspace = Workspace { root: PathBuf::from("/w"), target: PathBuf::from("/t") };
        for bootstrap in [true, false] {
            let (name, sysroot) = ("some".to_owned(), PathBuf::from("/usr"));
            let toolchain =
                Toolchain { name, origin: Origin::Linked, sysroot, rustc: (1, 96, 0), llvm: Some(22), bootstrap };
            let command = probe(&workspace, &toolchain);
            let set = command.get_envs().any(|(key, value)| key == "RUSTC_BOOTSTRAP" && value == Some(OsStr::new("1")));
            assert_eq!(set, bootstrap);
        }
    }
}
