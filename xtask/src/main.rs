//! `cargo xtask …`: what cargo alone cannot do for smtp-agent. Here: arguments in, exit code out.

mod bench;
mod interrupt;
mod kernel;
mod lint;
mod process;
mod progress;
mod run;
mod setup;
mod test;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::setup::Scope;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need and this machine lacks
    Setup {
        /// Only what building needs
        #[arg(long)]
        build_only: bool,
    },
    /// Build the agent, run it on this host in observe mode and show live connections until Ctrl-C
    Run {
        /// Arguments for `smtp-agent run`
        #[arg(last = true)]
        agent_arguments: Vec<OsString>,
    },
    /// Run every test, or those whose names contain a filter
    Test {
        /// Parts of the names of the tests to run
        filters: Vec<OsString>,
        /// Options for the test programs, such as `--nocapture`
        #[arg(last = true)]
        options: Vec<OsString>,
    },
    /// Measure what the kernel gate adds to a connect(), beside an empty program and nftables, and to packets, sessions and
    /// messages
    Bench {
        /// How often every case is measured (60 unless told; about two and a half minutes)
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rounds: Option<u32>,
    },
    /// Run clippy on every crate, the kernel probe included, and refuse warnings
    Lint,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::watch();
    match perform(arguments.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => process::exit_code(&error),
    }
}

fn perform(task: Task) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Setup { build_only: true } => setup::run(&workspace, Scope::Build),
        Task::Setup { build_only: false } => setup::run(&workspace, Scope::Everything),
        Task::Run { agent_arguments } => run::run(&workspace, &agent_arguments),
        Task::Test { filters, options } => test::run(&workspace, &filters, &options),
        Task::Bench { rounds } => bench::run(&workspace, rounds),
        Task::Lint => lint::run(&workspace),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn filters_options_and_the_agents_arguments_are_told_apart() {
        let parsed = |line: &str| Arguments::try_parse_from(line.split(' ')).map(|parsed| parsed.task);
        let Ok(Task::Test { filters, options }) = parsed("xtask test window refused -- --nocapture x") else {
            panic!()
        };
        assert_eq!(
            (filters, options),
            (vec!["window".into(), "refused".into()], vec!["--nocapture".into(), "x".into()])
        );
        let Ok(Task::Run { agent_arguments }) = parsed("xtask run -- --verbose") else { panic!() };
        assert_eq!(agent_arguments, ["--verbose"]);
        assert!(parsed("xtask run --verbose").is_err(), "an option of ours by mistake");
    }
}
