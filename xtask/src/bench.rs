//! `cargo xtask bench`: what the bench needs, then the agent and the bench as they are released, then the tables.

use std::process::Command;

use anyhow::Result;

use crate::kernel;
use crate::process::foreground;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, rounds: Option<u32>) -> Result<()> {
    // Before the long steps: without it they would be for nothing.
    kernel::must_load_programs()?;
    setup::run(workspace, Scope::Bench)?;
    let mut build = workspace.cargo();
    build.args([
        "build",
        "--release",
        "-p",
        "smtp-agent",
        "-p",
        "smtp-tests",
        "--bin",
        "smtp-agent",
        "--bin",
        "smtp-bench",
    ]);
    foreground(&mut build)?;
    foreground(&mut command(workspace, rounds))
}

fn command(workspace: &Workspace, rounds: Option<u32>) -> Command {
    let mut command = Command::new(workspace.target.join("release/smtp-bench"));
    command.env("SMTP_AGENT_BIN", workspace.target.join("release/smtp-agent"));
    command.args(rounds.map(|rounds| format!("--rounds={rounds}")));
    command
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::process::shown;

    #[test]
    fn the_rounds_are_passed_on_when_they_are_said() {
        let workspace = Workspace { root: PathBuf::from("/w"), target: PathBuf::from("/t") };
        assert_eq!(shown(&command(&workspace, Some(7))), "smtp-bench --rounds=7");
        assert_eq!(shown(&command(&workspace, None)), "smtp-bench");
    }
}
