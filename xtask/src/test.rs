//! `cargo xtask test`: everything the tests need, then `cargo test`. What it prints last is cargo test's own.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::kernel;
use crate::process::foreground;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;

/// How many tests run side by side, unless somebody says otherwise.
const THREADS: &str = "RUST_TEST_THREADS";

/// Every crate but the probe, which has no tests of its own and another target.
const CRATES: [&str; 3] = ["--workspace", "--exclude", "smtp-ebpf"];

pub(crate) fn run(workspace: &Workspace, filters: &[OsString], options: &[OsString]) -> Result<()> {
    // Before the long steps: without it they would be for nothing.
    kernel::must_load_programs()?;
    setup::run(workspace, Scope::Everything)?;
    let mut build = workspace.cargo();
    build.arg("build").args(CRATES).arg("--bins");
    foreground(&mut build)?;
    foreground(&mut command(workspace, filters, options))
}

fn command(workspace: &Workspace, filters: &[OsString], options: &[OsString]) -> Command {
    let mut command = workspace.cargo();
    command.arg("test").args(CRATES).arg("--no-fail-fast").arg("--").args(filters).args(options);
    command.env("SMTP_AGENT_BIN", workspace.target.join("debug/smtp-agent"));
    command.env("SMTP_TEST_TOOLS", workspace.test_tools());
    // Most of them wait most of the time: for windows, for mail servers, for each other.
    if std::env::var_os(THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        command.env(THREADS, (cores + cores.div_ceil(2)).to_string());
    }
    command
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::process::shown;

    #[test]
    fn filters_and_options_reach_every_test_program() {
        let workspace = Workspace { root: PathBuf::from("/w"), target: PathBuf::from("/t") };
        let command = command(&workspace, &["refused".into(), "window".into()], &["--nocapture".into()]);
        let text = shown(&command);
        assert!(
            text.ends_with("test --workspace --exclude smtp-ebpf --no-fail-fast -- refused window --nocapture"),
            "{text}"
        );
        let set: Vec<_> = command.get_envs().map(|(key, value)| (key.to_owned(), value.map(OsString::from))).collect();
        assert!(set.contains(&("SMTP_AGENT_BIN".into(), Some("/t/debug/smtp-agent".into()))), "{set:?}");
        assert!(set.contains(&("SMTP_TEST_TOOLS".into(), Some("/t/test-tools".into()))), "{set:?}");
    }
}
