//! Sends messages as a chosen user, and says what became of them.

use clap::Parser;
use smtp_tests::mailer::{Plan, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&Plan::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smtp-mailer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
